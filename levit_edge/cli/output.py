"""What goes to standard output: one JSON document, or text for a person."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

from pydantic import BaseModel
from rich.console import Console, RenderableType

from levit_edge.bundle.files import clear_os_errors, json_text

_WIDTH_OF_A_FILE = 160


def emit_json(document: BaseModel) -> None:
    """One JSON document in UTF-8, whatever the terminal's encoding."""
    _write(json_text(document.model_dump(mode="json")).encode("utf-8", "backslashreplace"))


def emit(*parts: RenderableType) -> None:
    """Tables and lines; text is shown as it is, without markup. Tables get room when nobody's terminal limits them."""
    terminal = sys.stdout.isatty()
    page = io.BytesIO()
    file = io.TextIOWrapper(page, encoding=sys.stdout.encoding or "utf-8", errors="backslashreplace")
    console = Console(
        file=file,
        markup=False,
        emoji=False,
        highlight=False,
        force_terminal=terminal or None,
        width=None if terminal else _WIDTH_OF_A_FILE,
    )
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str))
    file.flush()
    _write(page.getvalue())


def _write(text: bytes) -> None:
    """A reader that left early is no failure: the work is done, and its exit code stands."""
    with clear_os_errors(Path("standard output")):
        try:
            sys.stdout.flush()
            sys.stdout.buffer.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            discard_stdout()


def open_closed_streams() -> None:
    """Give standard streams that the caller closed (``>&-``) somewhere to go: nowhere, as for a reader that left.

    The descriptors 0 to 2 are all open afterwards, so that no file of ours becomes somebody's standard output.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free: this one
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # stays open to the end  # noqa: PTH123, SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115


def discard_stdout() -> None:
    """Send the rest of standard output nowhere, so that closing it at the end of the program cannot fail."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, sys.stdout.fileno())
    os.close(sink)
