"""Publishing a build: whole or not at all, also when it is killed, refused or runs out of disk."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from levit_edge.bundle import atomic_swap as exchange
from levit_edge.bundle import publish as staging
from levit_edge.bundle.publish import lock_directory, staged_directory, staged_outputs
from levit_edge.errors import InputError
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


def _tree(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def _build_tree(text: str) -> dict[str, str]:
    bundle = {"manifest.json": text, f"{text}.bin": text}
    tree = {f"{name}/{file}": content for name in ("coreml", "onnx") for file, content in bundle.items()}
    return {**tree, "report.json": text}


@BOTH_WAYS
def test_a_build_replaces_its_entries_and_nothing_else(
    out: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    if not can_exchange:
        monkeypatch.setattr(staging, "exchange", lambda first, second: False)
    with staged_outputs(out, bundles=("onnx", "coreml")) as folder:
        _fill(folder, "new")
        assert _tree(out / "onnx")["manifest.json"] == "old"
    assert _tree(out) == {**_build_tree("new"), "notes.txt": "mine"}
    assert sorted(os.listdir(out)) == ["coreml", "notes.txt", "onnx", "report.json"]


def test_the_report_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(staging, "swap_in", lambda source, target: seen.append(target.name))
    with staged_outputs(tmp_path / "dist") as folder:
        (folder / "a-report.md").touch()
        _fill(folder, "new")
    assert seen == ["coreml", "onnx", "a-report.md", "report.json"]


@pytest.mark.parametrize("failure", [RuntimeError("boom"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
def test_a_failed_build_changes_nothing(out: Path, failure: BaseException) -> None:
    before = _tree(out)
    with pytest.raises(type(failure)), staged_outputs(out) as folder:
        _fill(folder, "new")
        raise failure
    assert _tree(out) == before
    assert sorted(os.listdir(out)) == ["coreml", "notes.txt", "onnx", "report.json"]


def test_a_failed_first_build_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), staged_outputs(tmp_path / "a" / "dist"):
        raise RuntimeError
    assert os.listdir(tmp_path) == []


@BOTH_WAYS
def test_one_folder_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool) -> None:
    if not can_exchange:
        monkeypatch.setattr(staging, "exchange", lambda first, second: False)
    target = tmp_path / "bundle"
    for text in ("one", "two"):
        with staged_directory(target) as folder:
            (folder / "manifest.json").write_text(text)
        assert _tree(tmp_path) == {"bundle/manifest.json": text}
    assert target.stat().st_mode & 0o777 == 0o777 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_old_bundle_returns_when_the_second_rename_fails(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "exchange", lambda first, second: False)
    rename = Path.rename

    def refuse_new(self: Path, target: Path) -> Path:
        if (self / "new.bin").exists():
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_new)
    with pytest.raises(InputError, match="no space left"), staged_outputs(out) as folder:
        _fill(folder, "new")
    assert _tree(out) == {**_build_tree("old"), "notes.txt": "mine"}


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
    before = _tree(out)
    with pytest.raises(InputError, match="executorch"), staged_outputs(out, bundles=["executorch"]):
        pytest.fail("refused before the work starts")
    with pytest.raises(InputError, match="executorch"), staged_outputs(out) as folder:
        _fill(folder, "new")
        (folder / "executorch").mkdir()
    assert _tree(out) == before


def test_a_folder_in_the_place_of_the_report_is_refused(out: Path) -> None:
    (out / "report.md").mkdir()
    with pytest.raises(InputError, match=r"report\.md is a folder"), staged_outputs(out) as folder:
        _fill(folder, "new")
        (folder / "report.md").touch()
    assert (out / "report.json").read_text() == "old"


# A child process that stops in the middle of the step given to it, and says so.
CHILD = """
    import sys, time
    from pathlib import Path
    from levit_edge.bundle import publish as staging

    def stop(*args):
        print("stopped", flush=True)
        time.sleep(60)

    out, step = Path(sys.argv[1]), sys.argv[2]
    if step == "before-swap":
        staging.swap_in = stop
    elif step == "after-exchange":
        staging.shutil.rmtree = stop
    elif step == "between-renames":
        staging.exchange = lambda first, second: False
        rename = Path.rename
        Path.rename = lambda self, target: (rename(self, target), stop())
    with staging.staged_outputs(out) as folder:
        (folder / "onnx").mkdir()
        (folder / "onnx" / "manifest.json").write_text("new")
        (folder / "onnx" / "new.bin").write_text("new")
        if step == "building":
            stop()
"""


def _child(out: Path, step: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(out), step]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert child.stdout is not None
    assert child.stdout.readline() == "stopped\n"
    return child


def _kill(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGKILL)
    child.communicate()


@pytest.mark.parametrize("step", ["building", "before-swap", "after-exchange", "between-renames"])
def test_a_killed_build_leaves_a_whole_bundle(out: Path, step: str) -> None:
    if step == "after-exchange" and exchange._system_call() is None:
        pytest.skip("this system cannot exchange two names")
    _kill(_child(out, step))
    assert any(name.startswith(".") for name in os.listdir(out)), "the kill left something to clear up"
    state = "new" if step == "after-exchange" else "old"
    if step != "between-renames":
        assert (out / "onnx" / f"{state}.bin").read_text() == state

    with staged_outputs(out):
        pass
    onnx = {"onnx/manifest.json": state, f"onnx/{state}.bin": state}
    coreml = {name: text for name, text in _build_tree("old").items() if not name.startswith("onnx")}
    assert _tree(out) == {**coreml, **onnx, "notes.txt": "mine"}
    assert sorted(os.listdir(out)) == ["coreml", "notes.txt", "onnx", "report.json"]


def test_a_second_build_is_refused_at_once_and_names_the_first(out: Path) -> None:
    child = _child(out, "building")
    try:
        start = time.monotonic()
        with pytest.raises(InputError, match=rf"dist: another build \(process {child.pid}\)"), staged_outputs(out):
            pytest.fail("two builds in one folder")
        assert time.monotonic() - start < 5
        assert any("levit-tmp" in name for name in os.listdir(out)), "the first build's folder is untouched"
    finally:
        _kill(child)


def test_a_second_build_can_wait(out: Path) -> None:
    child = _child(out, "building")
    with pytest.raises(InputError, match="another build"), staged_outputs(out, timeout_s=0.2):
        pytest.fail("two builds in one folder")
    threading.Timer(0.3, child.kill).start()
    with staged_outputs(out, timeout_s=20) as folder:
        (folder / "report.json").write_text("mine now")
    _kill(child)
    assert (out / "report.json").read_text() == "mine now"


def test_the_lock_also_holds_inside_one_process(tmp_path: Path) -> None:
    with lock_directory(tmp_path), pytest.raises(InputError, match=str(os.getpid())), lock_directory(tmp_path):
        pytest.fail("locked twice")
    with lock_directory(tmp_path):
        assert os.listdir(tmp_path) == [staging.LOCK_NAME]
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
        assert _tree(disk / "dist") == _build_tree("old")
        assert sorted(os.listdir(disk / "dist")) == ["coreml", "onnx", "report.json"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_exchange_swaps_two_folders_in_one_step(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "x").touch()
    if exchange._system_call() is None:
        pytest.skip("this system cannot exchange two names")
    assert exchange.exchange(tmp_path / "a", tmp_path / "b")
    assert os.listdir(tmp_path / "a") == []
    assert os.listdir(tmp_path / "b") == ["x"]
    with pytest.raises(FileNotFoundError):
        exchange.exchange(tmp_path / "a", tmp_path / "absent")
