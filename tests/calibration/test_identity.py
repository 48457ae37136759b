"""The sums that identify images: they depend on all that the model is shown and on nothing else, and are pinned."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from calibration import Batch, EvaluationHash, ImageItem, ImageSet, calibration_hash, load, open_dataset
from levit_edge.families.levit.image_processor import default_preprocessing
from levit_edge.families.preprocessing import Preprocessing

Write = Callable[[Path, dict[str, bytes]], Path]
SMALL = default_preprocessing(16)
LABELS = ("cat", "dog", "frog")

# A change of either makes every earlier report incomparable; bump the scheme in calibration.identity and say so.
PINNED_CALIBRATION = "906f173499a9bf531520b71f70f67c5f159bae4005e50e08ad79d6a12eb35ab0"
PINNED_EVALUATION = "48056b880abdc9069f43afd11b0f4dd31d1b54a509c575e9aa810ed88d9ab6a9"


def test_the_calibration_hash_depends_on_everything_that_calibration_sees(
    tmp_path: Path, write: Write, files: dict[str, bytes]
) -> None:
    other = {**files, "cat/00.png": files["cat/01.png"]}
    with open_dataset(write(tmp_path / "a", files)) as one, open_dataset(write(tmp_path / "b", other)) as two:
        items = one.items
        hashes = [
            calibration_hash(one, items, Preprocessing(), 0),
            calibration_hash(one, items, Preprocessing(), 1),
            calibration_hash(one, items, Preprocessing(shortest_edge=192), 0),
            calibration_hash(one, items[1:], Preprocessing(), 0),
            calibration_hash(one, items[::-1], Preprocessing(), 0),
            calibration_hash(two, items, Preprocessing(), 0),
        ]
        assert len(set(hashes)) == len(hashes)
        assert hashes[0] == calibration_hash(one, items, Preprocessing(), 0)
        assert all(len(value) == 64 for value in hashes)


def test_the_calibration_hash_is_pinned(tmp_path: Path, write: Write) -> None:
    with open_dataset(write(tmp_path / "a", {"1.png": b"one", "2.png": b"two"})) as images:
        assert calibration_hash(images, images.items, Preprocessing(), 7) == PINNED_CALIBRATION


def _evaluated(
    images: ImageSet, items: tuple[ImageItem, ...], preprocessing: Preprocessing = SMALL, size: int = 5
) -> str:
    found = EvaluationHash(preprocessing)
    for batch in load(images, items, preprocessing, batch_size=size):
        found.add(batch)
    assert found.n == len(items)
    return found.hexdigest()


def _as_documented(images: ImageSet) -> str:
    """The same sum, written down a second time: each part is hashed, and then all of these hashes."""
    parts = [b"levit-edge evaluation 1", json.dumps(SMALL.model_dump(mode="json"), sort_keys=True).encode()]
    for item in images.items:
        parts += [item.name.encode(), str(item.class_index).encode(), images.read(item)]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def test_an_evaluation_is_the_same_in_every_run_and_in_every_batch_size(
    tmp_path: Path, write: Write, files: dict[str, bytes]
) -> None:
    sums = set()
    for name in ("folder", "archive.zip", "archive.tar.gz"):
        with open_dataset(write(tmp_path / name, files), LABELS) as images:
            sums |= {_evaluated(images, images.items, size=size) for size in (1, 5, 100)} | {_as_documented(images)}
    assert len(sums) == 1


def test_an_evaluation_depends_on_everything_that_the_model_is_shown(
    tmp_path: Path, write: Write, files: dict[str, bytes]
) -> None:
    swapped = {**files, "cat/00.png": files["cat/01.png"]}
    renamed = {("cat/99.png" if name == "cat/03.png" else name): data for name, data in files.items()}
    with (
        open_dataset(write(tmp_path / "a", files), LABELS) as images,
        open_dataset(write(tmp_path / "a", files), LABELS[::-1]) as relabelled,
        open_dataset(write(tmp_path / "b", swapped), LABELS) as other,
        open_dataset(write(tmp_path / "c", renamed), LABELS) as named,
    ):
        items = images.items
        sums = [
            _evaluated(images, items),
            _evaluated(images, items, SMALL.model_copy(update={"resample": "nearest"})),
            _evaluated(images, items[1:]),
            _evaluated(images, items[::-1]),
            _evaluated(relabelled, relabelled.items),
            _evaluated(other, other.items),
            _evaluated(named, named.items),
        ]
    assert len(set(sums)) == len(sums)


def test_another_file_is_another_evaluation_though_every_pixel_is_the_same(
    tmp_path: Path, write: Write, files: dict[str, bytes]
) -> None:
    sums, pixels = [], []
    for comment in ("a", "b"):
        info, path = PngImagePlugin.PngInfo(), write(tmp_path / comment, files)
        info.add_text("comment", comment)
        Image.new("RGB", (12, 10), "red").save(path / "cat" / "00.png", pnginfo=info)
        with open_dataset(path, LABELS) as images:
            sums.append(_evaluated(images, images.items))
            pixels.append(next(iter(load(images, images.items, SMALL, batch_size=12))).pixels)
    assert sums[0] != sums[1] and np.array_equal(*pixels)


def test_an_image_that_is_left_out_does_not_count(tmp_path: Path, write: Write, files: dict[str, bytes]) -> None:
    with open_dataset(write(tmp_path / "data", {**files, "cat/00.png": b"no image"}), LABELS) as images:
        found = EvaluationHash(SMALL)
        for batch in load(images, images.items, SMALL, batch_size=5, skip_bad_images=True):
            found.add(batch)
        assert (found.n, found.hexdigest()) == (len(files) - 1, _evaluated(images, images.items[1:]))


def test_the_evaluation_hash_is_pinned() -> None:
    found = EvaluationHash(Preprocessing())
    found.add(_batch(3))
    assert (found.n, found.hexdigest()) == (3, PINNED_EVALUATION)


def _batch(count: int) -> Batch:
    return Batch(
        inputs=np.zeros((count, 3, 1, 1), np.float32),
        pixels=np.zeros((count, 1, 1, 3), np.uint8),
        class_index=np.arange(-1, count - 1),
        names=tuple(f"{index}.png" for index in range(count)),
        file_sha256=tuple(hashlib.sha256(str(index).encode()).digest() for index in range(count)),
    )


def test_images_that_are_no_files_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        EvaluationHash(SMALL).add(dataclasses.replace(_batch(3), file_sha256=()))


def test_each_file_is_read_once_and_nothing_is_kept(
    tmp_path: Path, write: Write, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Counter[str]()
    original = ImageSet.read
    monkeypatch.setattr(ImageSet, "read", lambda images, item: (read.update([item.name]), original(images, item))[1])
    with open_dataset(write(tmp_path / "data", files), LABELS) as images:
        _evaluated(images, images.items)
    assert set(read.values()) == {1} and len(read) == len(files)
    found, batch = EvaluationHash(SMALL), _batch(100)
    found.add(batch)
    tracemalloc.start()
    try:
        for _ in range(100):
            found.add(batch)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.n == 10_100 and kept < 10_000  # not a byte for each image
