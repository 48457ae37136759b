"""Progress: nothing for libraries, lines for files, bars for terminals."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from levit_edge.cli.console import LineProgress, stderr_progress
from levit_edge.progress import QUIET, Progress


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_quiet_gives_the_items_and_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with QUIET.step("lowering"):
        assert list(QUIET.track(iter("abc"), "calibrating", 3)) == ["a", "b", "c"]
    assert capfd.readouterr() == ("", "")


def test_lines_tell_start_time_left_and_end() -> None:
    lines: list[str] = []
    clock = Clock()
    for _ in LineProgress(lines.append, clock).track(range(4), "calibrating", 4):
        clock.now_s += 6
    assert lines == [
        "levit-edge: calibrating ...",
        "levit-edge: calibrating: 2 of 4, about 12 s left",
        "levit-edge: calibrating: done in 24.0 s",
    ]


def test_a_phase_that_fails_is_not_called_done() -> None:
    lines: list[str] = []
    with pytest.raises(ValueError, match="broken"), LineProgress(lines.append).step("lowering"):
        raise ValueError("broken")
    assert lines == ["levit-edge: lowering ..."]


def _use(progress: Progress) -> list[int]:
    with progress.step("lowering [onnx]"):
        return list(progress.track(_numbers(), "measuring", 3))


def _numbers() -> Iterator[int]:
    yield from range(3)


def test_where_stderr_is_no_terminal_there_are_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with stderr_progress() as progress:
        assert _use(progress) == [0, 1, 2]
    captured = capsys.readouterr()
    assert captured.out == "" and "\x1b" not in captured.err
    assert captured.err.splitlines()[0] == "levit-edge: lowering [onnx] ..."


def test_on_a_terminal_bars_come_and_go(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with stderr_progress() as progress:
        assert _use(progress) == [0, 1, 2]
    captured = capsys.readouterr()
    assert captured.out == "" and "lowering [onnx]" in captured.err
