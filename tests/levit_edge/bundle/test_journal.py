"""All or nothing: a publication that is cut short after any of its steps leaves the old build or the new one."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from levit_edge.bundle import atomic_swap, journal
from levit_edge.bundle.journal import JOURNAL_NAME
from levit_edge.bundle.manifest import open_bundle
from levit_edge.bundle.publish import lock_directory, settle, staged_outputs
from levit_edge.errors import InputError
from levit_edge.report.schema import load_report
from tests.places import ROOT

WAYS = ["exchange", "step-aside"] if atomic_swap._system_call() else ["step-aside"]
BOTH_WAYS = pytest.mark.parametrize("way", WAYS)
NAMES = ("onnx", "coreml")


def fill(folder: Path, text: str) -> None:
    """A build of two bundles; ``executorch`` is new and has no predecessor."""
    for name in (*NAMES, "executorch") if text == "new" else NAMES:
        (folder / name).mkdir(parents=True)
        (folder / name / "manifest.json").write_text(text)
        (folder / name / f"{text}.bin").write_text(text)
    for name in ("report.json", "report.md"):
        (folder / name).write_text(text)


def _tree(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def _earlier_build(out: Path) -> Path:
    fill(out, "old")
    (out / "notes.txt").write_text("mine")
    return out


def _visible(out: Path) -> dict[str, str]:
    return {name: text for name, text in _tree(out).items() if not name.startswith(".")}


@pytest.fixture
def builds(tmp_path: Path) -> dict[str, dict[str, str]]:
    """What lies in the folder with the old build, and with the new one in its place."""
    fill(tmp_path / "fresh", "new")
    old = _tree(_earlier_build(tmp_path / "before"))
    return {"old": old, "new": {**_tree(tmp_path / "fresh"), "notes.txt": "mine"}}


def _assert_settled(out: Path, builds: dict[str, dict[str, str]]) -> str:
    """Which of the two builds lies in ``out``, whole, with nothing beside it."""
    (found,) = [name for name, tree in builds.items() if tree == _tree(out)]
    assert not [name for name in os.listdir(out) if name.startswith(".")]
    return found


class Steps:
    """Counts what changes names in a folder, and calls ``act`` before step number ``at``."""

    def __init__(self, at: int, act: Callable[[], None], always: bool = False) -> None:
        self.at, self.act, self.always = at, act, always
        self.done = 0

    def watch(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            self.done += 1
            if self.done == self.at or (self.always and self.done > self.at):
                self.act()
            return function(*arguments, **options)

        return watched


def _watch(patch: pytest.MonkeyPatch, way: str, steps: Steps) -> None:
    swap = journal.exchange if way == "exchange" else lambda first, second: False
    patch.setattr(journal, "exchange", steps.watch(swap))
    for name in ("rename", "replace", "unlink", "mkdir"):
        patch.setattr(Path, name, steps.watch(getattr(Path, name)))
    patch.setattr(shutil, "rmtree", steps.watch(shutil.rmtree))


def _publish(out: Path, way: str, steps: Steps) -> None:
    """A new build into ``out``; the steps count from the end of the build on."""
    with pytest.MonkeyPatch.context() as patch, staged_outputs(out) as folder:
        fill(folder, "new")
        _watch(patch, way, steps)


@BOTH_WAYS
def test_a_new_build_takes_the_place_of_the_old_one(way: str, tmp_path: Path, builds: Any) -> None:
    out = _earlier_build(tmp_path / "dist")
    _publish(out, way, Steps(0, lambda: None))
    assert _assert_settled(out, builds) == "new"


def _count(out: Path, way: str) -> int:
    steps = Steps(0, lambda: None)
    _publish(_earlier_build(out), way, steps)
    assert steps.done > 10
    return steps.done


# Publishes into many folders. Each time, a process of its own kills itself before another step.
KILLED = """
    import os, signal, sys
    from pathlib import Path
    from tests.levit_edge.bundle import test_journal as test

    root, way, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    for step in range(1, count + 1):
        child = os.fork()
        if child == 0:
            test._publish(root / str(step), way, test.Steps(step, lambda: os.kill(os.getpid(), signal.SIGKILL)))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (step, status)
    print("killed")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@BOTH_WAYS
def test_a_build_that_is_killed_at_any_step_leaves_the_old_build_or_the_new_one(
    way: str, tmp_path: Path, builds: Any
) -> None:
    count = _count(tmp_path / "counted", way)
    outs = [_earlier_build(tmp_path / str(step)) for step in range(1, count + 1)]
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), way, str(count)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.stdout == "killed\n", result.stderr
    found = []
    for out in outs:
        left = _visible(out)
        if "report.json" in left:  # a report stands for the whole build that it describes
            assert left in builds.values(), sorted(left)
        if way == "exchange":  # and every bundle is whole at any time
            assert all(_tree(out / name) in [_part(build, name) for build in builds.values()] for name in NAMES)
        settle(out)
        with staged_outputs(out):  # the next build clears up
            pass
        found.append(_assert_settled(out, builds))
    switch = found.index("new")
    assert switch > 0 and found == ["old"] * switch + ["new"] * (count - switch)
    assert len({text for out in outs for text in _tree(out).values()} & {"old", "new"}) == 2


def _part(build: dict[str, str], folder: str) -> dict[str, str]:
    prefix = f"{folder}/"
    return {name.removeprefix(prefix): text for name, text in build.items() if name.startswith(prefix)}


class Terminated(BaseException):
    """What a handler of SIGTERM raises, wherever the program is."""


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
def interrupt(request: pytest.FixtureRequest) -> Iterator[Callable[[], None]]:
    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.raise_signal(request.param)
    for number, handler in before.items():
        signal.signal(number, handler)


@BOTH_WAYS
def test_a_signal_at_any_step_leaves_the_old_build_or_the_new_one(
    way: str, tmp_path: Path, builds: Any, interrupt: Callable[[], None]
) -> None:
    for step in range(1, _count(tmp_path / "counted", way) + 1):
        out = _earlier_build(tmp_path / str(step))
        with pytest.raises((KeyboardInterrupt, Terminated)):
            _publish(out, way, Steps(step, interrupt))
        assert not (out / JOURNAL_NAME).exists()
        assert _visible(out) in builds.values()
        with staged_outputs(out):
            pass
        _assert_settled(out, builds)


@BOTH_WAYS
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_disk_error_at_any_step_puts_the_old_build_back(way: str, code: int, tmp_path: Path, builds: Any) -> None:
    def fail() -> None:
        raise OSError(code, os.strerror(code))

    count, outcomes = _count(tmp_path / "counted", way), []
    for step in range(1, count + 1):
        out = _earlier_build(tmp_path / str(step))
        with pytest.raises(InputError, match=r"no space left|permission denied"):
            _publish(out, way, Steps(step, fail))
        assert not (out / JOURNAL_NAME).exists() and _visible(out) in builds.values()
        with staged_outputs(out):  # where clearing up failed, the next build does it
            pass
        outcomes.append(_assert_settled(out, builds))
    # The last three steps come after the journal is deleted: two folders and the lock.
    assert outcomes == ["old"] * (count - 3) + ["new"] * 3


@BOTH_WAYS
def test_when_the_way_back_fails_too_the_next_reader_completes_the_build(way: str, tmp_path: Path, builds: Any) -> None:
    def fail() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    unfinished = 0
    for step in range(1, _count(tmp_path / "counted", way)):
        out = _earlier_build(tmp_path / str(step))
        with pytest.raises(InputError, match="input/output error"):
            _publish(out, way, Steps(step, fail, always=True))
        unfinished += (out / JOURNAL_NAME).exists()
        if "report.json" in _visible(out):
            assert _visible(out) in builds.values()
        with staged_outputs(out):
            pass
        _assert_settled(out, builds)
    assert unfinished > 5


def _unfinished(out: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A publication of which one bundle is new and one is old, as a kill leaves it."""
    _earlier_build(out)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="killed"), staged_outputs(out) as folder:
        fill(folder, "new")

        def killed(path: Path) -> None:
            raise OSError("killed")

        move = journal._move

        def some(entry: Any, source: Path, target: Path) -> None:
            if entry.name == "onnx":
                raise OSError("killed")
            move(entry, source, target)

        patch.setattr(journal, "exchange", lambda first, second: False)
        patch.setattr(journal, "_move", some)
        patch.setattr(journal, "_undo", lambda out, publication: None)
    assert (out / "coreml" / "new.bin").exists() and (out / "onnx" / "old.bin").exists()
    assert not (out / "report.json").exists()
    return out


def test_a_reader_completes_the_publication_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builds: Any) -> None:
    out = _unfinished(tmp_path / "bundle", monkeypatch)
    with pytest.raises(InputError, match="is not JSON"):  # the bundles of these tests have no real manifest
        open_bundle(out / "onnx")
    assert _assert_settled(out, builds) == "new"
    out = _unfinished(tmp_path / "report", monkeypatch)
    with pytest.raises(InputError, match="is not JSON"):
        load_report(out / "report.json")
    assert _assert_settled(out, builds) == "new"


def test_a_relative_path_is_settled_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builds: Any) -> None:
    out = _unfinished(tmp_path / "dist", monkeypatch)
    monkeypatch.chdir(out)
    with pytest.raises(InputError, match="is not JSON"):
        open_bundle(Path("onnx"))
    assert _assert_settled(out, builds) == "new"


def test_a_reader_does_not_disturb_a_build_that_publishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = _unfinished(tmp_path / "dist", monkeypatch)
    monkeypatch.setattr("levit_edge.bundle.publish._PUBLISHING_S", 0)
    before = _tree(out)
    with lock_directory(out), pytest.raises(InputError, match=rf"another build \(process {os.getpid()}\)"):
        load_report(out / "report.json")
    assert _tree(out) == before


def test_without_the_staged_files_the_old_build_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builds: Any
) -> None:
    out = _unfinished(tmp_path / "dist", monkeypatch)
    (staging,) = out.glob(".build.levit-tmp-*")
    shutil.rmtree(staging)
    settle(out)
    assert _assert_settled(out, builds) == "old"


@pytest.mark.parametrize("text", ["{", "[]", '{"staging": "a/b", "aside": "..", "entries": []}'])
def test_a_journal_that_cannot_be_read_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / JOURNAL_NAME).write_text(text)
    with pytest.raises(InputError, match=r"levit-edge\.journal .*; delete it and build again") as failure:
        settle(tmp_path)
    assert "\n" not in str(failure.value) and (tmp_path / JOURNAL_NAME).exists()


def test_a_folder_without_a_journal_is_not_touched(tmp_path: Path) -> None:
    settle(tmp_path / "absent")
    assert os.listdir(tmp_path) == []
