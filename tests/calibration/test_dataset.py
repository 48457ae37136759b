"""The forms a data set can take, and how its classes find the model's labels."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from calibration import ImageItem, calibration_hash, open_dataset, sample
from calibration.classes import class_indices, imagenet_wnids
from levit_edge.errors import InputError
from levit_edge.families.preprocessing import Preprocessing
from tests.places import SHARED

Write = Callable[[Path, dict[str, bytes]], Path]
LABELS = ("frog", "cat", "dog")
SHARED_DATA = SHARED / "data"
TSV = "filename\tclass\n" + "".join(f"{number}.png\t{kind}\n" for number, kind in enumerate(("cat", "dog", "cat")))


def _flat(tsv: str | None = None) -> dict[str, bytes]:
    images = {f"{number}.png": b"x" for number in range(3)}
    return images if tsv is None else {**images, "labels.tsv": tsv.encode()}


def _refused(path: Path, message: str, labels: tuple[str, ...] = ()) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_dataset(path, labels, require_labels=bool(labels))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["", ".zip", ".tar", ".tar.gz"])
@pytest.mark.parametrize("wrap", ["", "test/", "./a/b/c/"])
def test_every_container_gives_the_same_set(
    tmp_path: Path, write: Write, files: dict[str, bytes], suffix: str, wrap: str
) -> None:
    plain = write(tmp_path / "plain", files)
    wrapped = write(tmp_path / f"wrapped{suffix}", {wrap + name: data for name, data in reversed(files.items())})
    with open_dataset(plain, LABELS) as one, open_dataset(str(wrapped), LABELS, require_labels=True) as other:
        assert one.items == other.items
        assert [other.read(item) for item in other.items] == list(files.values())
        chosen = sample(one.items, 5, 3)
        assert calibration_hash(one, chosen, Preprocessing(), 3) == calibration_hash(other, chosen, Preprocessing(), 3)


def test_items_are_sorted_and_indexed_by_the_labels(tmp_path: Path, write: Write, files: dict[str, bytes]) -> None:
    with open_dataset(write(tmp_path / "d", files), LABELS) as images:
        assert [item.name for item in images.items] == sorted(files)
        assert images.items[0] == ImageItem("cat/00.png", "cat", 1)
        assert images.items[-1] == ImageItem("frog/03.png", "frog", 0)
        assert images.labelled


def test_nested_class_folders_count_by_their_top(tmp_path: Path, write: Write) -> None:
    content = {"all/cat/a/1.png": b"x", "all/cat/b/2.png": b"x", "all/dog/3.png": b"x"}
    with open_dataset(write(tmp_path / "d", content), LABELS) as images:
        assert [(item.name, item.class_name) for item in images.items] == [
            ("cat/a/1.png", "cat"),
            ("cat/b/2.png", "cat"),
            ("dog/3.png", "dog"),
        ]


@pytest.mark.parametrize(
    ("folder", "labels", "expected"), [("cat", LABELS, "cat"), ("cat", (), None), ("x", LABELS, None)]
)
def test_a_single_folder_is_a_class_only_by_its_name(
    tmp_path: Path, write: Write, folder: str, labels: tuple[str, ...], expected: str | None
) -> None:
    with open_dataset(write(tmp_path / "d", {f"w/{folder}/1.png": b"x"}), labels) as images:
        assert images.items[0].class_name == expected
        assert images.items[0].name == (f"{folder}/1.png" if expected else "1.png")
        assert images.read(images.items[0]) == b"x"


def test_flat_and_unlabelled(tmp_path: Path, write: Write) -> None:
    path = write(tmp_path / "d", _flat())
    with open_dataset(path, LABELS) as images:
        assert [(item.name, item.class_index) for item in images.items] == [(f"{n}.png", None) for n in range(3)]
        assert not images.labelled
    _refused(path, "the images have no classes", LABELS)


@pytest.mark.parametrize("suffix", ["", ".zip", ".tar.gz"])
@pytest.mark.parametrize("tsv", [TSV, TSV.split("\n", 1)[1], "\ufeff" + TSV.replace("\n", "\r\n") + "\r\n"])
def test_labels_tsv(tmp_path: Path, write: Write, suffix: str, tsv: str) -> None:
    content = {f"wrap/{name}": data for name, data in _flat(tsv).items()}
    with open_dataset(write(tmp_path / f"d{suffix}", content), LABELS, require_labels=True) as images:
        assert [(item.name, item.class_index) for item in images.items] == [("0.png", 1), ("1.png", 2), ("2.png", 1)]


def test_labels_tsv_may_name_files_in_folders(tmp_path: Path, write: Write) -> None:
    content = {"a/1.png": b"x", "b/2.png": b"y", "labels.tsv": b"a/1.png\tdog\nb/2.png\tcat\n"}
    with open_dataset(write(tmp_path / "d", content), LABELS) as images:
        assert [item.class_index for item in images.items] == [2, 1]


@pytest.mark.parametrize(
    ("tsv", "message"),
    [
        (TSV + "9.png\tcat\n", r"labels\.tsv names files that are not there: '9\.png'"),
        ("0.png\tcat\n", r"labels\.tsv gives no class for: '1\.png', '2\.png'"),
        (TSV + "1.png\tcat\n", r"line 5: '1\.png' is listed twice"),
        ("0.png cat\n", "line 1: expected filename, one tab, class"),
        ("0.png\tcat\tdog\n", "line 1: expected"),
        ("0.png\t\n", "line 1: expected"),
    ],
)
def test_a_wrong_labels_tsv(tmp_path: Path, write: Write, tsv: str, message: str) -> None:
    _refused(write(tmp_path / "d", _flat(tsv)), message)


def test_a_labels_tsv_that_is_not_text(tmp_path: Path, write: Write) -> None:
    _refused(write(tmp_path / "d", {"1.png": b"x", "labels.tsv": b"1.png\t\xff\n"}), "not UTF-8 text at byte 6")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "no images; image files end in .jpg"),
        ({"README.md": b"x"}, "no images"),
        ({"cat/1.png": b"x", "2.png": b"x"}, r"images lie beside class folders: '2\.png'"),
        ({"a/labels.tsv": b"", "b/labels.tsv": b"", "a/1.png": b""}, "more than one labels.tsv"),
        ({"a/labels.tsv": b"", "b/1.png": b""}, r"images outside the folder of labels\.tsv: 'b/1\.png'"),
        ({"1.png": b"x", "2.heic": b"x", "n01440764.tar": b"x"}, r"not an image file: '2\.heic', 'n01440764\.tar'"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".zip", ".tar"])
def test_what_is_no_data_set(
    tmp_path: Path, write: Write, content: dict[str, bytes], message: str, suffix: str
) -> None:
    path = tmp_path / f"d{suffix}"
    if not suffix:
        path.mkdir()
    _refused(write(path, content), message)


def test_notes_hidden_and_system_files_are_left_out(
    tmp_path: Path, write: Write, files: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    noise = ("README.md", "LICENSE", ".git/x.png", "cat/.DS_Store", "__MACOSX/cat/._00.png", "dog/Thumbs.db")
    caplog.set_level(logging.INFO)
    with open_dataset(write(tmp_path / "d.zip", {**files, **dict.fromkeys(noise, b"x")}), LABELS) as images:
        assert [item.name for item in images.items] == sorted(files)
    assert "'LICENSE', 'README.md'" in caplog.text


def test_a_subfolder_can_be_chosen(tmp_path: Path, write: Write, files: dict[str, bytes]) -> None:
    content = {f"{part}/{name}": data for part in ("train", "test") for name, data in files.items()}
    path = write(tmp_path / "d.zip", content)
    with open_dataset(path, LABELS, subfolder="test/") as images:
        assert [item.name for item in images.items] == sorted(files)
    with pytest.raises(InputError, match="no images"):
        open_dataset(path, LABELS, subfolder="tes")


def test_unknown_classes(
    tmp_path: Path, write: Write, files: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "d", files)
    _refused(path, "2 of 3 classes do not match .* 2 labels: 'dog', 'frog'; valid: 'cat', 'bird'", ("cat", "bird"))
    caplog.set_level(logging.INFO)
    with open_dataset(path, ("cat", "bird")) as images:
        assert {item.class_name: item.class_index for item in images.items} == {"cat": 0, "dog": None, "frog": None}
        assert not images.labelled
    assert "2 of 3 classes" in caplog.text
    with open_dataset(path) as images:
        assert {item.class_index for item in images.items} == {None}


HF_LABELS = ("tench, Tinca tinca", "great white shark, white shark", "crane", "crane", "maillot", "maillot, tank suit")


@pytest.mark.parametrize(
    ("names", "labels", "expected"),
    [
        (["Cat", "DOG"], LABELS, {"Cat": 1, "DOG": 2}),
        (["tench", "Tinca tinca"], HF_LABELS, {"tench": 0, "Tinca tinca": 0}),
        (["great_white_shark"], HF_LABELS, {"great_white_shark": 1}),
        (["crane", "maillot", "tank suit"], HF_LABELS, {"maillot": 4, "tank suit": 5}),
        (["0", "02"], LABELS, {"0": 0, "02": 2}),
        (["1", "2", "3"], LABELS, {}),  # numbered from 1: every class would be one off
        (["7", "8"], ("8", "7"), {"7": 1, "8": 0}),
        (["LABEL_1"], ("LABEL_0", "LABEL_1"), {"LABEL_1": 1}),
        (["²"], LABELS, {}),
        (["n00000002", "n00000001", "n00000003"], LABELS, {"n00000001": 0, "n00000002": 1, "n00000003": 2}),
        (["n00000002", "n00000001"], LABELS, {}),
        (["n00000002"], ("n00000001", "n00000002"), {"n00000002": 1}),
        ([], LABELS, {}),
        (["cat"], (), {}),
    ],
)
def test_class_indices(names: list[str], labels: tuple[str, ...], expected: dict[str, int]) -> None:
    assert class_indices(names, labels) == expected


def test_imagenet_folders_without_wnids_in_the_labels() -> None:
    wnids = imagenet_wnids()
    labels = [f"class {index}" for index in range(1000)]
    assert len(set(wnids)) == 1000
    assert class_indices(wnids[::2], labels) == {wnid: index for index, wnid in enumerate(wnids) if index % 2 == 0}
    assert class_indices(wnids, labels) == {wnid: index for index, wnid in enumerate(wnids)}
    assert class_indices([wnids[5], "n99999999"], labels) == {wnids[5]: 5}
    assert class_indices(wnids[:5], labels[:999]) == {}


def test_the_wnids_are_those_of_the_class_table() -> None:
    table = SHARED_DATA / "imagenet_classes.tsv"
    if not table.is_file():
        pytest.skip("the ImageNet class table is not beside the repository")
    rows = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()]
    assert [(int(index), wnid) for index, wnid, _ in rows] == list(enumerate(imagenet_wnids()))


def test_a_wrapped_zip_of_real_images() -> None:
    path = SHARED_DATA / "cifar10-test-2000.zip"
    if not path.is_file():
        pytest.skip("the CIFAR-10 images are not beside the repository")
    labels = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    with open_dataset(path, labels, require_labels=True) as images:
        assert len(images.items) == 2000
        assert {item.class_index for item in images.items} == set(range(10))
        assert images.read(images.items[0])[:4] == b"\x89PNG"
