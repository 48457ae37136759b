"""Loading: the right content in the right order, in little memory, with both threads, which end."""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import calibration.loader
from calibration import (
    UNKNOWN_CLASS,
    BadImageError,
    ImageSet,
    decode,
    image_pixels,
    load,
    normalize,
    open_dataset,
)
from calibration.loader import AHEAD_PER_WORKER
from calibration.preprocess import Pixels
from levit_edge.errors import InputError
from levit_edge.families.levit.image_processor import default_preprocessing
from levit_edge.families.preprocessing import Preprocessing

MakePhoto = Callable[..., Image.Image]
Encode = Callable[..., bytes]
Write = Callable[[Path, dict[str, bytes]], Path]
SMALL = default_preprocessing(16)
TIMEOUT_S = 300  # only so that a failure does not hang


@pytest.fixture
def images(tmp_path: Path, write: Write, files: dict[str, bytes]) -> Iterator[ImageSet]:
    with open_dataset(write(tmp_path / "data", files), ("cat", "dog")) as opened:
        yield opened


def _image_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("images")]


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("batch_size", [1, 5, 12, 100])
def test_batches_hold_every_image_in_order(images: ImageSet, workers: int, batch_size: int) -> None:
    batches = list(load(images, images.items, SMALL, batch_size=batch_size, workers=workers))
    assert [name for batch in batches for name in batch.names] == [item.name for item in images.items]
    assert [len(batch.names) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    first, last = batches[0], batches[-1]
    assert first.inputs.shape == (len(first.names), 3, 16, 16)
    assert first.pixels.shape == (len(first.names), 16, 16, 3)
    assert [str(part.dtype) for part in (first.inputs, first.pixels, first.class_index)] == [
        "float32",
        "uint8",
        "int64",
    ]
    assert first.inputs.flags.c_contiguous
    expected = image_pixels(images.read(images.items[0]), "a", SMALL)
    np.testing.assert_array_equal(first.pixels[0], expected)
    np.testing.assert_array_equal(first.inputs[0], normalize(expected, SMALL))
    assert [sum256 for batch in batches for sum256 in batch.file_sha256] == [
        hashlib.sha256(images.read(item)).digest() for item in images.items
    ]
    assert first.class_index[0] == 0
    assert last.class_index[-1] == UNKNOWN_CLASS


def test_order_holds_when_the_first_image_is_the_slowest(images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    second_is_done = threading.Event()

    def slow_first(data: bytes, name: str, preprocessing: Preprocessing) -> Pixels:
        if name == "cat/00.png":
            assert second_is_done.wait(TIMEOUT_S)
        pixels = image_pixels(data, name, preprocessing)
        if name == "cat/01.png":
            second_is_done.set()
        return pixels

    monkeypatch.setattr(calibration.loader, "image_pixels", slow_first)
    names = [batch.names[0] for batch in load(images, images.items, SMALL, workers=3)]
    assert names == [item.name for item in images.items]


def test_both_workers_decode_at_once(images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    meeting = threading.Barrier(2, timeout=TIMEOUT_S)

    def meet(data: bytes, name: str, preprocessing: Preprocessing) -> Pixels:
        meeting.wait()  # passes only while another thread is in here too
        return image_pixels(data, name, preprocessing)

    monkeypatch.setattr(calibration.loader, "image_pixels", meet)
    assert len(list(load(images, images.items, SMALL, workers=2))) == len(images.items)


class _Alive:
    """How many of the watched objects exist now, and how many at most existed at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0

    def watch(self, thing: object) -> None:
        self._change(1)
        weakref.finalize(thing, self._change, -1)

    def _change(self, by: int) -> None:
        with self._lock:
            self._now += by
            self.most = max(self.most, self._now)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_memory_does_not_grow_with_the_number_of_images(
    images: ImageSet, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    full_size, prepared = _Alive(), _Alive()

    def watched_decode(data: bytes, name: str) -> Image.Image:
        image = decode(data, name)
        full_size.watch(image)
        return image

    def watched_pixels(data: bytes, name: str, preprocessing: Preprocessing) -> Pixels:
        pixels = image_pixels(data, name, preprocessing)
        prepared.watch(pixels)
        return pixels

    monkeypatch.setattr(calibration.loader, "decode", watched_decode)
    monkeypatch.setattr(calibration.loader, "image_pixels", watched_pixels)
    items = images.items * 20
    assert sum(len(batch.names) for batch in load(images, items, SMALL, batch_size=batch_size, workers=2)) == 240
    assert full_size.most <= 2
    assert prepared.most <= 2 * AHEAD_PER_WORKER + batch_size + 1


def test_closing_early_stops_the_threads(images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def noted(data: bytes, name: str, preprocessing: Preprocessing) -> Pixels:
        started.append(name)
        return image_pixels(data, name, preprocessing)

    monkeypatch.setattr(calibration.loader, "image_pixels", noted)
    batches = iter(load(images, images.items * 10, SMALL, workers=2))
    next(batches)
    assert _image_threads()
    batches.close()
    assert not _image_threads()
    assert len(started) <= 1 + 2 * AHEAD_PER_WORKER  # the batch of one image, and those ahead of it


def _with_bad(tmp_path: Path, write: Write, files: dict[str, bytes]) -> Path:
    bad = {"cat/01.png": files["cat/01.png"][:60], "dog/02.png": b"not an image"}
    return write(tmp_path / "bad", {**files, **bad})


def test_a_bad_image_stops_with_its_name(tmp_path: Path, write: Write, files: dict[str, bytes]) -> None:
    with open_dataset(_with_bad(tmp_path, write, files)) as images:
        later = images.items[2:]
        for items, message, before in (
            (images.items, r"^image cat/01\.png: damaged or cut short", 0),
            (later, r"^image dog/02\.png: not an image", 2),  # the full batch before it waits for the next image
        ):
            seen: list[str] = []
            with pytest.raises(BadImageError, match=message):
                for batch in load(images, items, SMALL, batch_size=2):
                    seen.extend(batch.names)
            assert seen == [item.name for item in later[:before]]
            assert not _image_threads()


def test_bad_images_can_be_skipped_and_are_listed(tmp_path: Path, write: Write, files: dict[str, bytes]) -> None:
    with open_dataset(_with_bad(tmp_path, write, files)) as images:
        loader = load(images, images.items, SMALL, batch_size=3, skip_bad_images=True)
        for _ in range(2):
            batches = list(loader)
            names = [name for batch in batches for name in batch.names]
            assert names == [name for name in sorted(files) if name not in ("cat/01.png", "dog/02.png")]
            skipped = [entry for batch in batches for entry in batch.skipped]
            assert [name for name, _ in skipped] == ["cat/01.png", "dog/02.png"]
            assert "damaged" in skipped[0][1]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 100])
def test_every_skipped_image_belongs_to_one_batch(
    tmp_path: Path, write: Write, files: dict[str, bytes], batch_size: int
) -> None:
    good, bad = sorted(files)[2:6], [*sorted(files)[:2], *sorted(files)[6:]]
    with open_dataset(write(tmp_path / "d", files | dict.fromkeys(bad, b"not an image"))) as images:
        batches = list(load(images, images.items, SMALL, batch_size=batch_size, skip_bad_images=True))
    assert [name for batch in batches for name in batch.names] == good
    expected = [bad] if len(batches) == 1 else [bad[:2], *[[]] * (len(batches) - 2), bad[2:]]
    assert [[name for name, _ in batch.skipped] for batch in batches] == expected


def test_without_a_readable_image_there_is_an_error(tmp_path: Path, write: Write, files: dict[str, bytes]) -> None:
    with open_dataset(write(tmp_path / "d", dict.fromkeys(files, b"not an image"))) as images:
        loader = load(images, images.items, SMALL, skip_bad_images=True)
        with pytest.raises(
            InputError, match=r"/d: none of the 12 images could be read; image cat/00\.png: not an image"
        ):
            list(loader)
    assert not _image_threads()


def test_an_image_that_cannot_be_converted_bears_its_name(encode: Encode) -> None:
    data = encode(Image.fromarray(np.full((4, 4), 1e9, dtype=np.float32)), "TIFF")
    with pytest.raises(BadImageError, match=r"^image x\.tif: floating-point pixels"):
        image_pixels(data, "x.tif", SMALL)


def test_sizes_that_differ_within_a_batch_are_named(
    tmp_path: Path, write: Write, photo: MakePhoto, encode: Encode
) -> None:
    path = write(tmp_path / "d", {"1.png": encode(photo(10, 12)), "2.png": encode(photo(11, 12))})
    free = Preprocessing(do_resize=False, do_center_crop=False)
    with open_dataset(path) as images:
        assert [batch.pixels.shape[1] for batch in load(images, images.items, free)] == [10, 11]
        with pytest.raises(InputError, match=r"image 2\.png is 11x12"):
            list(load(images, images.items, free, batch_size=2))


@pytest.mark.parametrize(("field", "workers", "batch_size"), [("workers", 0, 1), ("batch_size", 1, 0)])
def test_counts_of_zero_are_refused(images: ImageSet, field: str, workers: int, batch_size: int) -> None:
    with pytest.raises(InputError, match=f"{field} is 0; it must be at least 1"):
        load(images, images.items, SMALL, workers=workers, batch_size=batch_size)


def test_no_items_give_no_batches(images: ImageSet) -> None:
    assert list(load(images, (), SMALL)) == []
