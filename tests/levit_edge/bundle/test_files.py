"""Atomic files, hashes, sizes, and disk errors as one line."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from levit_edge.bundle import files
from levit_edge.errors import InputError


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A 256 KiB file system; the test is skipped where mounting one is not allowed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_write_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    files.write_text(path, "a longer text than the next one")
    files.write_bytes(path, b"short")
    assert path.read_bytes() == b"short"
    assert os.listdir(tmp_path) == ["report.json"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"report\.json: no space left"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.json"]


def test_a_stream_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    files.write_text(Path(f"/dev/fd/{writer}"), "to a pipe")
    os.close(writer)
    assert os.read(reader, 100) == b"to a pipe"
    os.close(reader)
    with (tmp_path / "redirected").open("wb") as redirected:
        redirected.write(b"before ")
        redirected.flush()
        files.write_text(Path(f"/dev/fd/{redirected.fileno()}"), "between ")
        redirected.write(b"after")
    assert (tmp_path / "redirected").read_bytes() == b"before between after"


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
def test_a_full_device_is_one_line_and_stays_a_device() -> None:
    with pytest.raises(InputError, match="/dev/full: no space left"):
        files.write_text(Path("/dev/full"), "text")
    assert Path("/dev/full").is_char_device()


def test_a_name_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the name is too long"):
        files.write_text(tmp_path / ("x" * 300), "text")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    files.write_text(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text() == "text"


def test_a_really_full_disk_is_one_line(tiny_disk: Path) -> None:
    path = tiny_disk / "model.onnx"
    path.write_text("old")
    with pytest.raises(InputError, match=r"model\.onnx: no space left"):
        files.write_bytes(path, bytes(1 << 20))
    assert path.read_text() == "old"
    assert os.listdir(tiny_disk) == ["model.onnx"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EDQUOT, "quota"),
        (errno.ENOTDIR, "a file stands where a folder is needed"),
    ],
)
def test_disk_errors_become_one_line(code: int, words: str) -> None:
    with (
        pytest.raises(InputError, match=rf"^/out: .*{words}.*; [^\n]+$"),
        files.clear_os_errors(Path("/out")),
    ):
        raise OSError(code, os.strerror(code), "/out/.build/onnx/model.onnx")


def test_a_file_elsewhere_is_named_itself() -> None:
    with pytest.raises(InputError, match=r"^/data/a\.png: permission"), files.clear_os_errors(Path("/out")):
        raise PermissionError(errno.EACCES, "Permission denied", "/data/a.png")


def test_faults_of_the_program_pass_unchanged() -> None:
    with pytest.raises(FileNotFoundError), files.clear_os_errors(Path("/out")):
        raise FileNotFoundError(errno.ENOENT, "No such file", "/out/x")


def test_json_is_stable_and_strict(tmp_path: Path) -> None:
    value = {"b": 1, "a": [1.5, None, "é"]}
    files.write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert text.index('"b"') < text.index('"a"')
    assert "é" in text
    assert text.endswith("}\n")
    with pytest.raises(ValueError, match="Out of range"):
        files.write_json(tmp_path / "x.json", {"a": float("nan")})


def test_sha256_of_a_file_longer_than_one_block(tmp_path: Path) -> None:
    data = os.urandom((1 << 20) + 17)
    (tmp_path / "a").write_bytes(data)
    assert files.sha256_file(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def _package(folder: Path, entries: dict[str, bytes]) -> Path:
    for name, data in entries.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_sha256_of_a_tree_sees_names_and_contents_only(tmp_path: Path) -> None:
    entries = {"Data/weights.bin": b"w", "Manifest.json": b"{}", "Data/a/b": b""}
    tree = _package(tmp_path / "one", entries)
    same = _package(tmp_path / "two", dict(reversed(entries.items())))
    (same / "empty").mkdir()
    os.utime(same / "Manifest.json", (1, 1))
    assert files.sha256_tree(tree) == files.sha256_tree(same) == files.sha256_path(tree)

    renamed = _package(tmp_path / "three", {"Data/weights.bin": b"w", "manifest.json": b"{}", "Data/a/b": b""})
    changed = _package(tmp_path / "four", {**entries, "Data/weights.bin": b"v"})
    swapped = _package(tmp_path / "five", {**entries, "Data/weights.bin": b"{}", "Manifest.json": b"w"})
    hashes = {files.sha256_tree(folder) for folder in (tree, renamed, changed, swapped)}
    assert len(hashes) == 4


def test_the_tree_hash_is_that_of_sha256sum(tmp_path: Path) -> None:
    tree = _package(tmp_path, {"b": b"2", "a/c": b"1"})
    listing = subprocess.run(["sha256sum", "a/c", "b"], cwd=tree, capture_output=True, check=True).stdout
    assert files.sha256_tree(tree) == hashlib.sha256(listing).hexdigest()


def test_size_of_files_and_folders(tmp_path: Path) -> None:
    _package(tmp_path, {"a": bytes(10), "b/c": bytes(7)})
    assert files.size_bytes(tmp_path / "a") == 10
    assert files.size_bytes(tmp_path) == 17
