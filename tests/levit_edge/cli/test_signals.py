"""Signals to the console script, as a process manager or a CI runner sends them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from levit_edge.cli import run
from tests.levit_edge.cli.commands import Captured
from tests.places import ROOT

TIMEOUT_S = 300  # only so that a failure does not hang

# The console script with a pipeline that works in a temporary folder, and cleans up until its standard input ends.
WORKING = """
import signal, sys, tempfile, time, types

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it

def inspect(options, progress):
    with tempfile.TemporaryDirectory(dir=options.bundle):
        try:
            print("ready", file=sys.stderr, flush=True)
            time.sleep(600)
        finally:
            print("cleaning", file=sys.stderr, flush=True)
            sys.stdin.read()

verb = types.ModuleType("levit_edge.pipeline.inspect")
verb.inspect = inspect
sys.modules[verb.__name__] = verb
sys.argv = ["levit-edge", "inspect", {folder!r}, "--json"]

from levit_edge.cli import main
main()
"""


@contextmanager
def _started(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The script while it works in ``folder``; killed where the test fails."""
    command = [sys.executable, "-c", WORKING.format(folder=str(folder))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) as process:
        try:
            assert process.stderr is not None and process.stderr.readline() == "ready\n"
            assert len(list(folder.iterdir())) == 1
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(signal.SIGTERM, 143, "levit-edge: terminated"), (signal.SIGINT, 130, "levit-edge: interrupted")],
)
def test_a_signal_ends_the_work_and_cleans_up(number: signal.Signals, code: int, line: str, tmp_path: Path) -> None:
    with _started(tmp_path) as process:
        process.send_signal(number)
        out, error = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (code, "")
    assert error.splitlines() == ["cleaning", line]
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_second_sigterm_does_not_disturb_the_cleaning_up(tmp_path: Path) -> None:
    with _started(tmp_path) as process:
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None and process.stderr.readline() == "cleaning\n"
        process.send_signal(signal.SIGTERM)  # arrives before the input ends, so in the middle of the cleaning up
        assert process.communicate(timeout=TIMEOUT_S) == ("", "levit-edge: terminated\n")
    assert process.returncode == 143 and not list(tmp_path.iterdir())


def test_only_the_console_script_takes_the_signal(capfd: Captured) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert run(["--version"]) == 0 and capfd.readouterr().out
    assert signal.getsignal(signal.SIGTERM) == before
