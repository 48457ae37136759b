"""Archives and folders that are hostile, damaged or odd."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import calibration.file_stores
from calibration import BadImageError, ImageSet, open_dataset
from calibration.file_names import archive_name
from levit_edge.errors import InputError

Write = Callable[[Path, dict[str, bytes]], Path]
ESCAPES = ["../a.png", "x/../../a.png", "/etc/a.png", "C:/a.png", "c:\\a.png", "..\\a.png", "\\\\host\\a.png"]


def _refused(path: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_dataset(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def _add(tar: tarfile.TarFile, name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    tar.addfile(member, io.BytesIO())


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
@pytest.mark.parametrize("name", ESCAPES)
def test_an_entry_that_escapes_is_refused(tmp_path: Path, write: Write, suffix: str, name: str) -> None:
    _refused(write(tmp_path / f"data{suffix}", {"a/1.png": b"x", name: b"x"}), "points outside the archive")


@given(st.text(alphabet="./\\ab:C", max_size=12))
def test_an_accepted_name_stays_inside(raw: str) -> None:
    try:
        name = archive_name(raw, "a.zip")
    except InputError:
        return
    root = Path("/root/of/data")
    assert Path(os.path.normpath(root / name)).is_relative_to(root)
    assert "\\" not in name


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_tar_member_that_is_no_plain_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        _add(tar, "cat/1.png", kind, "/etc/passwd")
    _refused(tmp_path / "a.tar", r"entry 'cat/1\.png' is a (link|special file)")


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("cat/1.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    _refused(tmp_path / "a.zip", "is a link")


def test_an_encrypted_zip_is_refused(tmp_path: Path, write: Write) -> None:
    path = write(tmp_path / "a.zip", {"1.png": b"x"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    _refused(path, "is encrypted")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_an_entry_that_occurs_twice_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/1.png", b"x")
            archive.writestr("./a/1.png", b"y")
    else:
        with tarfile.open(path, "w") as tar:
            _add(tar, "a/1.png")
            _add(tar, "./a/1.png")
    _refused(path, r"'a/1\.png' occurs twice")


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_an_archive_bomb_is_refused_unread(tmp_path: Path, write: Write, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", {"1.bmp": bytes(calibration.file_stores.EXPANSION_FLOOR_BYTES + 2**20)})
    assert path.stat().st_size < 2**20
    _refused(path, "archive bomb")


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("MAX_ENTRY_BYTES", 9, "has 10 bytes; limit 9"),
        ("MAX_ENTRIES", 1, "more than 1 entries"),
        ("MAX_TOTAL_BYTES", 19, "more than 19 bytes"),
    ],
)
def test_each_limit(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch, suffix: str, limit: str, value: int, message: str
) -> None:
    path = write(tmp_path / f"a{suffix}", {"1.png": bytes(10), "2.png": bytes(10)})
    monkeypatch.setattr(calibration.file_stores, limit, value)
    _refused(path, message)


def test_a_compressed_tar_past_the_total_limit_is_refused(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.tar.gz", {"1.png": bytes(10)})
    monkeypatch.setattr(calibration.file_stores, "MAX_TOTAL_BYTES", 100)
    _refused(path, "expands past 10240 bytes")


def test_a_folder_with_too_many_files_is_refused(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "d", {"1.png": b"x", "2.png": b"x"})
    monkeypatch.setattr(calibration.file_stores, "MAX_ENTRIES", 1)
    _refused(tmp_path / "d", "more than 1 files")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.98])
@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_a_cut_archive_is_refused(
    tmp_path: Path, write: Write, files: dict[str, bytes], suffix: str, share: float
) -> None:
    path = write(tmp_path / f"a{suffix}", files)
    data = path.read_bytes()
    used = len(data) if suffix != ".tar" else len(data.rstrip(b"\0"))
    path.write_bytes(data[: int(used * share)])
    _refused(path, "cannot be read as|damaged or ends early")


def test_a_tar_cut_between_members_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        _add(tar, "1.png")
        _add(tar, "2.png")
    path = tmp_path / "a.tar"
    path.write_bytes(path.read_bytes()[:512])
    _refused(path, "ends early")


def test_a_tar_with_a_damaged_header_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("1.png", "2.png", "3.png"):
            _add(tar, name)
    data = bytearray((tmp_path / "a.tar").read_bytes())
    data[512 + 150] ^= 0xFF
    (tmp_path / "a.tar").write_bytes(data)
    _refused(tmp_path / "a.tar", "damaged")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
@pytest.mark.parametrize("data", [b"", b"nothing like an archive" * 50, gzip.compress(b"not a tar file", mtime=0)])
def test_what_is_no_archive_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    _refused(tmp_path / name, "cannot be read as")


def test_a_missing_path_and_an_unknown_suffix(tmp_path: Path) -> None:
    _refused(tmp_path / "absent", "no such file or folder")
    (tmp_path / "a.rar").write_bytes(b"x")
    _refused(tmp_path / "a.rar", r"valid: a folder, \.zip, \.tar, \.tar\.gz, \.tgz")


def test_a_gzipped_tar_is_known_by_its_content(tmp_path: Path, write: Write, files: dict[str, bytes]) -> None:
    write(tmp_path / "a.tar.gz", files).rename(tmp_path / "a.tar")
    with open_dataset(tmp_path / "a.tar") as images:
        assert [images.read(item) for item in images.items] == list(files.values())


def test_folders_reached_twice_through_links_are_refused(tmp_path: Path, write: Write) -> None:
    root = write(tmp_path / "d", {"cat/1.png": b"x"})
    (root / "cat" / "loop").symlink_to(root)
    _refused(root, "reached more than once")


def test_links_to_files_and_folders_are_followed(tmp_path: Path, write: Write, files: dict[str, bytes]) -> None:
    write(tmp_path / "real", files)
    subset = tmp_path / "subset"
    (subset / "dog").mkdir(parents=True)
    (subset / "cat").symlink_to(tmp_path / "real" / "cat")
    (subset / "dog" / "00.png").symlink_to(tmp_path / "real" / "dog" / "00.png")
    with open_dataset(subset) as images:
        assert len(images.items) == 5
        assert images.read(images.items[-1]) == files["dog/00.png"]


def test_a_pipe_in_a_folder_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "1.png")
    with open_dataset(tmp_path) as images, pytest.raises(BadImageError, match=r"^image 1\.png: .*not an ordinary file"):
        images.read(images.items[0])


def test_a_dangling_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "1.png").symlink_to(tmp_path / "absent.png")
    with (
        open_dataset(tmp_path) as images,
        pytest.raises(BadImageError, match=r"^image 1\.png: cannot be read: No such"),
    ):
        images.read(images.items[0])


def test_a_huge_file_in_a_folder_is_named(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration.file_stores, "MAX_ENTRY_BYTES", 9)
    with open_dataset(write(tmp_path / "d", {"1.png": bytes(10)})) as images, pytest.raises(BadImageError, match="9"):
        images.read(images.items[0])


def test_a_damaged_zip_entry_is_named(tmp_path: Path, write: Write, files: dict[str, bytes]) -> None:
    path = write(tmp_path / "a.zip", files)
    data = bytearray(path.read_bytes())
    data[80:90] = bytes(10)
    path.write_bytes(data)
    with open_dataset(path) as images, pytest.raises(BadImageError, match=r"^image cat/00\.png: cannot be read: "):
        images.read(images.items[0])


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ""])
def test_reading_from_many_threads(tmp_path: Path, write: Write, files: dict[str, bytes], suffix: str) -> None:
    def check(images: ImageSet, number: int) -> bool:
        item = images.items[number % len(images.items)]
        return images.read(item) == files[item.name]

    with open_dataset(write(tmp_path / f"a{suffix}", files)) as images, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda number: check(images, number), range(300)))
