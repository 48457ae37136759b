"""From arguments to an exit code: every failure becomes one line on standard error."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import NoReturn

import typer

from levit_edge.cli.app import app
from levit_edge.cli.output import discard_stdout, open_closed_streams
from levit_edge.errors import InputError, LevitEdgeError, MissingComponentError

PROGRAM = "levit-edge"
GLOBAL_FLAGS = ("--debug", "-v", "--verbose")
INTERRUPTED = 130
TERMINATED = 143  # as a shell reports a program that SIGTERM ended
READER_GONE = 141  # as a shell reports a program that SIGPIPE ended


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: what runs is undone and cleaned up, as after a Ctrl-C."""


def main() -> None:
    """The console script."""
    open_closed_streams()
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)
    code = run(sys.argv[1:])
    with suppress(BrokenPipeError):
        sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and give back its exit code; see the table of exit codes in the README."""
    try:
        return _invoke(_global_flags_first(arguments))
    except typer.Exit as finished:
        return finished.exit_code
    except BrokenPipeError:  # the reader of --help or --version left
        discard_stdout()
        return READER_GONE
    except (Exception, KeyboardInterrupt) as error:  # the last resort  # noqa: BLE001
        if "--debug" in arguments and not isinstance(error, typer.TyperException):
            _complain(traceback.format_exc().rstrip())
        code, line = _explain(error)
        _complain(f"{PROGRAM}: {' '.join(line.split())}")
        return code


def _terminate(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    signal.signal(signal.SIGTERM, lambda *_: None)  # a second one does not disturb the cleaning up
    raise Terminated


def _invoke(arguments: list[str]) -> int:
    """What ``typer`` does between parsing and its own error handling; the verbs return their exit code."""
    command = typer.main.get_command(app)
    with command.make_context(PROGRAM, arguments) as context:
        return int(command.invoke(context) or 0)


def _global_flags_first(arguments: Sequence[str]) -> list[str]:
    """Global flags count wherever they stand before ``--``: people add ``--debug`` at the end of the last command."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    head, tail = arguments[:end], arguments[end:]
    flags = [argument for argument in head if argument in GLOBAL_FLAGS]
    return [*flags, *(argument for argument in head if argument not in GLOBAL_FLAGS), *tail]


def _explain(error: BaseException) -> tuple[int, str]:
    """The exit code, and the reason in words."""
    if isinstance(error, Terminated):
        return TERMINATED, "terminated"
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted"
    if isinstance(error, LevitEdgeError):
        return error.exit_code, f"error: {error}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        missing = MissingComponentError(error.name, f"pip install {error.name}")
        return missing.exit_code, f"error: {missing}"
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        path = PROGRAM if context is None else context.command_path
        reason = error.format_message().rstrip(".").replace("Value error, ", "")  # pydantic's words, not the user's
        return InputError.exit_code, f"error: {reason} (see {path} --help)"
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return LevitEdgeError.exit_code, f"error: internal error, {reason} (--debug shows where)"


def _complain(text: str) -> None:
    """Write to standard error, and go on without it when it is closed."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # stays open to the end  # noqa: PTH123, SIM115
