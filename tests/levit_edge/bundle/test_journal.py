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
from levit_edge.bundle.publish import settle, staged_outputs
from levit_edge.errors import InputError
from tests.levit_edge.bundle.outputs import NAMES, assert_settled, earlier_build, fill, tree, visible
from tests.places import ROOT

WAYS = ["exchange", "step-aside"] if atomic_swap._system_call() else ["step-aside"]
BOTH_WAYS = pytest.mark.parametrize("way", WAYS)


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
    out = earlier_build(tmp_path / "dist")
    _publish(out, way, Steps(0, lambda: None))
    assert assert_settled(out, builds) == "new"


def _count(out: Path, way: str) -> int:
    steps = Steps(0, lambda: None)
    _publish(earlier_build(out), way, steps)
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
    outs = [earlier_build(tmp_path / str(step)) for step in range(1, count + 1)]
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), way, str(count)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.stdout == "killed\n", result.stderr
    found = []
    for out in outs:
        left = visible(out)
        if "report.json" in left:  # a report stands for the whole build that it describes
            assert left in builds.values(), sorted(left)
        if way == "exchange":  # and every bundle is whole at any time
            assert all(tree(out / name) in [_part(build, name) for build in builds.values()] for name in NAMES)
        settle(out)
        with staged_outputs(out):  # the next build clears up
            pass
        found.append(assert_settled(out, builds))
    switch = found.index("new")
    assert switch > 0 and found == ["old"] * switch + ["new"] * (count - switch)
    assert len({text for out in outs for text in tree(out).values()} & {"old", "new"}) == 2


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
        out = earlier_build(tmp_path / str(step))
        with pytest.raises((KeyboardInterrupt, Terminated)):
            _publish(out, way, Steps(step, interrupt))
        assert not (out / JOURNAL_NAME).exists()
        assert visible(out) in builds.values()
        with staged_outputs(out):
            pass
        assert_settled(out, builds)


@BOTH_WAYS
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_disk_error_at_any_step_puts_the_old_build_back(way: str, code: int, tmp_path: Path, builds: Any) -> None:
    def fail() -> None:
        raise OSError(code, os.strerror(code))

    count, outcomes = _count(tmp_path / "counted", way), []
    for step in range(1, count + 1):
        out = earlier_build(tmp_path / str(step))
        with pytest.raises(InputError, match=r"no space left|permission denied"):
            _publish(out, way, Steps(step, fail))
        assert not (out / JOURNAL_NAME).exists() and visible(out) in builds.values()
        with staged_outputs(out):  # where clearing up failed, the next build does it
            pass
        outcomes.append(assert_settled(out, builds))
    # The last three steps come after the journal is deleted: two folders and the lock.
    assert outcomes == ["old"] * (count - 3) + ["new"] * 3


@BOTH_WAYS
def test_when_the_way_back_fails_too_the_next_reader_completes_the_build(way: str, tmp_path: Path, builds: Any) -> None:
    def fail() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    unfinished = 0
    for step in range(1, _count(tmp_path / "counted", way)):
        out = earlier_build(tmp_path / str(step))
        with pytest.raises(InputError, match="input/output error"):
            _publish(out, way, Steps(step, fail, always=True))
        unfinished += (out / JOURNAL_NAME).exists()
        if "report.json" in visible(out):
            assert visible(out) in builds.values()
        with staged_outputs(out):
            pass
        assert_settled(out, builds)
    assert unfinished > 5


def _stopped_in_the_middle(out: Path, at: int) -> None:
    """A publication that ends after some of its steps, with nothing undone: as a kill leaves it."""

    class Killed(BaseException):
        pass

    def kill() -> None:
        raise Killed

    with pytest.raises(Killed):
        _publish(out, "exchange" if "exchange" in WAYS else "step-aside", Steps(at, kill, always=True))


@pytest.mark.parametrize("at", range(3, 14))
def test_a_copy_of_an_unfinished_publication_is_settled_as_well(at: int, tmp_path: Path, builds: Any) -> None:
    """A copy has other inodes; only the content tells old from new."""
    out = earlier_build(tmp_path / "dist")
    _stopped_in_the_middle(out, at)
    copy = Path(shutil.copytree(out, tmp_path / "copy"))
    shutil.rmtree(out)
    settle(copy)
    assert {name: text for name, text in visible(copy).items() if name != "notes.txt"} in [
        {name: text for name, text in files.items() if name != "notes.txt" and not name.startswith(".")}
        for files in builds.values()
    ]


@pytest.mark.parametrize("lost", ["levit-old", "levit-tmp"])
def test_a_hidden_folder_that_somebody_removed_does_not_block_the_folder(lost: str, tmp_path: Path) -> None:
    out = earlier_build(tmp_path / "dist")
    _stopped_in_the_middle(out, 6)
    for folder in out.glob(f".*{lost}*/"):
        shutil.rmtree(folder)
    settle(out)
    assert not (out / JOURNAL_NAME).exists()
    assert {path.read_text() for path in out.rglob("manifest.json")} in ({"new"}, {"old"})
