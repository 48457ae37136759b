"""Publishing a build: whole or not at all, also when it is killed, refused or runs out of disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from levit_edge.bundle import atomic_swap, journal
from levit_edge.bundle.publish import LOCK_NAME, lock_directory, staged_outputs
from levit_edge.errors import InputError
from tests.levit_edge.bundle.outputs import tree
from tests.places import ROOT

BOTH_WAYS = pytest.mark.parametrize("can_exchange", [True, False], ids=["exchange", "step-aside"])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with an earlier build and a file of the user's."""
    out = tmp_path / "dist"
    _fill(out, "old")
    (out / "notes.txt").write_text("mine")
    return out


def _fill(folder: Path, text: str) -> None:
    for name in ("onnx", "coreml"):
        (folder / name).mkdir(parents=True)
        (folder / name / "manifest.json").write_text(text)
        (folder / name / f"{text}.bin").write_text(text)
    (folder / "report.json").write_text(text)


def _build_tree(text: str) -> dict[str, str]:
    bundle = {"manifest.json": text, f"{text}.bin": text}
    files = {f"{name}/{file}": content for name in ("coreml", "onnx") for file, content in bundle.items()}
    return {**files, "report.json": text}


@BOTH_WAYS
def test_a_build_replaces_its_entries_and_nothing_else(
    out: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    if not can_exchange:
        monkeypatch.setattr(journal, "exchange", lambda first, second: False)
    with staged_outputs(out, bundles=("onnx", "coreml")) as folder:
        _fill(folder, "new")
        assert tree(out / "onnx")["manifest.json"] == "old"
    assert tree(out) == {**_build_tree("new"), "notes.txt": "mine"}
    assert sorted(os.listdir(out)) == ["coreml", "notes.txt", "onnx", "report.json"]


@pytest.mark.parametrize("failure", [RuntimeError("boom"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
def test_a_failed_build_changes_nothing(out: Path, failure: BaseException) -> None:
    before = tree(out)
    with pytest.raises(type(failure)), staged_outputs(out) as folder:
        _fill(folder, "new")
        raise failure
    assert tree(out) == before
    assert sorted(os.listdir(out)) == ["coreml", "notes.txt", "onnx", "report.json"]


def test_a_failed_first_build_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), staged_outputs(tmp_path / "a" / "dist"):
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_a_bundle_has_the_permissions_of_any_new_folder(out: Path) -> None:
    with staged_outputs(out) as folder:
        _fill(folder, "new")
    mask = os.umask(0)
    os.umask(mask)
    assert (out / "onnx").stat().st_mode & 0o777 == 0o777 & ~mask


@pytest.mark.parametrize("make", ["folder", "file", "link"])
def test_user_data_is_never_replaced(out: Path, make: str) -> None:
    target = out / "executorch"
    if make == "folder":
        target.mkdir()
        (target / "thesis.tex").write_text("years")
    elif make == "file":
        target.write_text("years")
    else:
        target.symlink_to(out / "onnx")
    before = tree(out)
    with pytest.raises(InputError, match="executorch"), staged_outputs(out, bundles=["executorch"]):
        pytest.fail("refused before the work starts")
    with pytest.raises(InputError, match="executorch"), staged_outputs(out) as folder:
        _fill(folder, "new")
        (folder / "executorch").mkdir()
    assert tree(out) == before


def test_a_folder_in_the_place_of_the_report_is_refused(out: Path) -> None:
    (out / "report.md").mkdir()
    with pytest.raises(InputError, match=r"report\.md is a folder"), staged_outputs(out) as folder:
        _fill(folder, "new")
        (folder / "report.md").touch()
    assert (out / "report.json").read_text() == "old"


# A build that says so and then waits for the end of its standard input.
CHILD = """
    import sys
    from pathlib import Path
    from levit_edge.bundle.publish import staged_outputs

    with staged_outputs(Path(sys.argv[1])) as folder:
        (folder / "onnx").mkdir()
        (folder / "onnx" / "manifest.json").write_text("new")
        print("building", flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def child(out: Path) -> Iterator[subprocess.Popen[str]]:
    """A build into ``out`` that goes on until it is killed."""
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None and process.stdout.readline() == "building\n"
        yield process
        process.kill()


def test_a_build_that_is_killed_changes_nothing_and_is_cleared_up(out: Path, child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait()
    assert any("levit-tmp" in name for name in os.listdir(out)), "the kill left something to clear up"
    with staged_outputs(out):
        assert tree(out / "onnx") == {"manifest.json": "old", "old.bin": "old"}
    assert tree(out) == {**_build_tree("old"), "notes.txt": "mine"}
    assert sorted(os.listdir(out)) == ["coreml", "notes.txt", "onnx", "report.json"]


def test_a_second_build_is_refused_and_names_the_first(out: Path, child: subprocess.Popen[str]) -> None:
    for timeout_s in (0, 0.1):
        with (
            pytest.raises(InputError, match=rf"dist: another build \(process {child.pid}\)"),
            staged_outputs(out, timeout_s=timeout_s),
        ):
            pytest.fail("two builds in one folder")
    assert any("levit-tmp" in name for name in os.listdir(out)), "the first build's folder is untouched"


def test_a_second_build_can_wait(out: Path, child: subprocess.Popen[str]) -> None:
    kill = threading.Thread(target=child.kill)
    kill.start()
    with staged_outputs(out, timeout_s=600) as folder:  # however long the first one takes to end
        (folder / "report.json").write_text("mine now")
    kill.join()
    assert (out / "report.json").read_text() == "mine now"


def test_the_lock_also_holds_inside_one_process(tmp_path: Path) -> None:
    with lock_directory(tmp_path), pytest.raises(InputError, match=str(os.getpid())), lock_directory(tmp_path):
        pytest.fail("locked twice")
    with lock_directory(tmp_path):
        assert os.listdir(tmp_path) == [LOCK_NAME]
    assert os.listdir(tmp_path) == []


def test_out_below_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "dist"):
        with pytest.raises(InputError, match="a file stands where a folder is needed"), staged_outputs(out):
            pytest.fail("no folder to write in")


def test_a_read_only_file_system_is_one_line(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        for out in (disk, disk / "dist"):
            with pytest.raises(InputError, match="read-only"), staged_outputs(out):
                pytest.fail("nothing can be written here")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="permission denied"), staged_outputs(tmp_path / "dist"):
        pytest.fail("nothing can be written here")
    tmp_path.chmod(0o700)


def test_a_full_disk_in_the_middle_of_a_build_keeps_the_old_one(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        _fill(disk / "dist", "old")
        with pytest.raises(InputError, match="dist: no space left"), staged_outputs(disk / "dist") as folder:
            _fill(folder, "new")
            (folder / "onnx" / "model.onnx").write_bytes(bytes(1 << 20))
        assert tree(disk / "dist") == _build_tree("old")
        assert sorted(os.listdir(disk / "dist")) == ["coreml", "onnx", "report.json"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_exchange_swaps_two_folders_in_one_step(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "x").touch()
    if atomic_swap._system_call() is None:
        pytest.skip("this system cannot exchange two names")
    assert atomic_swap.exchange(tmp_path / "a", tmp_path / "b")
    assert os.listdir(tmp_path / "a") == []
    assert os.listdir(tmp_path / "b") == ["x"]
    with pytest.raises(FileNotFoundError):
        atomic_swap.exchange(tmp_path / "a", tmp_path / "absent")


def test_the_lock_is_released_where_its_file_cannot_be_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EACCES, "denied", str(path))

    with monkeypatch.context() as patch, pytest.raises(InputError) as kept, lock_directory(tmp_path):
        patch.setattr(Path, "unlink", refuse)
    assert kept.tb is not None  # it holds everything that the block held, so nothing is released by being forgotten
    with lock_directory(tmp_path):
        pass
