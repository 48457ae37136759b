"""The console script: run a command line, report every failure in one line on standard error, give an exit code."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import NoReturn

import typer

from levit_edge.cli.app import app
from levit_edge.cli.console import discard_stdout, open_devnull, open_missing_streams
from levit_edge.errors import InputError, LevitEdgeError, MissingComponentError

PROGRAM = "levit-edge"
GLOBAL_FLAGS = ("--debug", "-v", "--verbose")
INTERRUPTED = 130
TERMINATED = 143  # what a shell reports for a program that SIGTERM ended
READER_GONE = 141  # what a shell reports for a program that SIGPIPE ended


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived. A KeyboardInterrupt, so that everything cleans up as it does after Ctrl-C."""


def main() -> None:
    """Run the command line of this process, and exit with its code."""
    open_missing_streams()
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)
    code = run(sys.argv[1:])
    with suppress(BrokenPipeError):
        sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; the README lists the codes."""
    try:
        # As typer does, but without its error handling. Each verb returns its exit code.
        command = typer.main.get_command(app)
        with command.make_context(PROGRAM, _global_flags_first(arguments)) as context:
            return int(command.invoke(context) or 0)
    except typer.Exit as finished:
        return finished.exit_code
    except BrokenPipeError:  # the program that read --help or --version has ended
        discard_stdout()
        return READER_GONE
    except (Exception, KeyboardInterrupt) as error:  # whatever it is, one line  # noqa: BLE001
        if "--debug" in arguments and not isinstance(error, typer.TyperException):
            _complain(traceback.format_exc().rstrip())
        code, line = _explain(error)
        _complain(f"{PROGRAM}: {' '.join(line.split())}")
        return code


def _terminate(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    signal.signal(signal.SIGTERM, lambda *_: None)  # a second one must not interrupt the cleaning up
    raise Terminated


def _global_flags_first(arguments: Sequence[str]) -> list[str]:
    """Move the global flags to the front, where ``typer`` wants them; people add ``--debug`` at the end of a command.

    What follows ``--`` stays where it is.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    # sorted() is stable: within the flags, and within the rest, the order stays.
    return [*sorted(arguments[:end], key=lambda argument: argument not in GLOBAL_FLAGS), *arguments[end:]]


def _explain(error: BaseException) -> tuple[int, str]:
    """The exit code for ``error``, and what to print about it."""
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
    """Print to standard error. If that fails, because nobody reads it, drop this line and all that follow."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = open_devnull()
