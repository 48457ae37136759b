"""Everything that reaches the terminal: answers on standard output, log lines and progress on standard error."""

from __future__ import annotations

import io
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from levit_edge.bundle.files import clear_os_errors, json_text
from levit_edge.progress import Progress

if TYPE_CHECKING:  # the help does not wait for what only an answer needs
    from pydantic import BaseModel

T = TypeVar("T")

FILE_WIDTH = 160  # characters of a table when standard output is not a terminal
SECONDS_BETWEEN_LINES = 10.0
OWN_PACKAGES = ("levit_edge", "calibration", "quantize", "targets")

# These packages log warnings about their own optional parts on every import or conversion:
#   coremltools    the installed scikit-learn and torch are not the versions it was tested with; macOS libraries
#   torchao        its CUDA kernels
#   torch          a deprecated call inside torchao; operators of torchvision, which no model here uses
#   py.warnings    everything from the warnings module, which is meant for developers
CHATTY = (
    "coremltools",
    "py.warnings",
    "torch.onnx._internal.exporter._registration",
    "torch.utils._pytree",
    "torchao",
)
# coremltools draws progress bars with tqdm, which reads this variable when it is imported.
NO_TQDM = "TQDM_DISABLE"


# --- Standard streams


def open_devnull() -> io.TextIOWrapper:
    """A text stream that swallows what is written to it. It stays open until the program ends."""
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123


def open_missing_streams() -> None:
    """Open ``/dev/null`` in place of every standard stream that the caller closed, as a shell does for ``>&-``.

    Otherwise Python sets ``sys.stdout`` or ``sys.stderr`` to None, and the next file that is opened gets the free
    descriptor: whatever native code then prints would land in that file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor, which is this one
    sys.stdout = sys.stdout or open_devnull()
    sys.stderr = sys.stderr or open_devnull()


def discard_stdout() -> None:
    """Redirect standard output to ``/dev/null``, so that flushing it when the program ends cannot fail."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, sys.stdout.fileno())
    os.close(sink)


# --- Answers on standard output


def emit_json(document: BaseModel) -> None:
    """Print one JSON document, in UTF-8 whatever the encoding of the terminal."""
    _write(json_text(document.model_dump(mode="json")).encode("utf-8", "backslashreplace"))


def emit(*parts: RenderableType) -> None:
    """Print tables and lines of text; markup in the text is not interpreted.

    Tables are as wide as the terminal, or FILE_WIDTH characters when standard output is a file or a pipe.
    """
    terminal = sys.stdout.isatty()
    page = io.BytesIO()
    file = io.TextIOWrapper(page, encoding=sys.stdout.encoding or "utf-8", errors="backslashreplace")
    console = Console(
        file=file,
        markup=False,
        emoji=False,
        highlight=False,
        force_terminal=terminal or None,
        width=None if terminal else FILE_WIDTH,
    )
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str))
    file.flush()
    _write(page.getvalue())


def _write(text: bytes) -> None:
    """Write to standard output. When the reader has left, as ``head`` does, the rest is dropped without an error."""
    with clear_os_errors(Path("standard output")):
        try:
            sys.stdout.flush()
            sys.stdout.buffer.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            discard_stdout()


# --- Log lines on standard error


class _StderrHandler(logging.Handler):
    """Prints ``levit-edge: warning: ...``, above the progress bar when there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.console = Console(stderr=True, markup=False, emoji=False, highlight=False)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = f"levit-edge: {record.levelname.lower()}: {self.format(record)}"
            self.console.print(message, soft_wrap=True)
        except Exception:  # noqa: BLE001  # as every handler of the standard library does
            self.handleError(record)


@contextmanager
def logging_to_stderr(*, verbose: bool, debug: bool) -> Iterator[None]:
    """Show log lines while the block runs, and restore the settings of logging and warnings afterwards.

    Shows warnings of OWN_PACKAGES; ``verbose`` adds their info lines and the warnings of CHATTY, ``debug`` everything
    that OWN_PACKAGES log.
    """
    own = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    levels = dict.fromkeys(OWN_PACKAGES, own)
    levels |= dict.fromkeys(CHATTY, logging.WARNING if verbose or debug else logging.ERROR)
    handler = _StderrHandler()
    before = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger().addHandler(handler)
    logging.captureWarnings(True)
    try:
        with warnings.catch_warnings(), _tqdm(hidden=not (verbose or debug)):
            yield
    finally:
        logging.captureWarnings(False)
        logging.getLogger().removeHandler(handler)
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def is_verbose() -> bool:
    """True when the user asked for the output of other packages, with ``--verbose`` or ``--debug``."""
    return logging.getLogger(OWN_PACKAGES[0]).isEnabledFor(logging.INFO)


@contextmanager
def _tqdm(*, hidden: bool) -> Iterator[None]:
    """Turn off tqdm's bars if ``hidden``, unless the user has set its variable."""
    ours = hidden and NO_TQDM not in os.environ
    if ours:
        os.environ[NO_TQDM] = "1"
    try:
        yield
    finally:
        if ours:
            os.environ.pop(NO_TQDM, None)


# --- Progress on standard error


class BarProgress:
    """One bar for each phase that is running; it disappears when the phase ends."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars

    def track(self, items: Iterable[T], label: str, total: int) -> Iterator[T]:
        """Show a bar that advances with every item."""
        with self._task(label, total) as task:
            for item in items:
                yield item
                self._bars.advance(task)

    @contextmanager
    def step(self, label: str) -> Iterator[None]:
        """Show a bar that pulses, for a phase whose length is not known."""
        with self._task(label, None):
            yield

    @contextmanager
    def _task(self, label: str, total: int | None) -> Iterator[TaskID]:
        task = self._bars.add_task(label, total=total)
        try:
            yield task
        finally:
            self._bars.remove_task(task)


class LineProgress:
    """One line when a phase starts, one every SECONDS_BETWEEN_LINES while it lasts, and one when it is done."""

    def __init__(self, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock

    def track(self, items: Iterable[T], label: str, total: int) -> Iterator[T]:
        """Count the items and estimate the time left."""
        with self.step(label):
            start = last = self._clock()
            for done, item in enumerate(items, 1):
                yield item
                now = self._clock()
                if now - last >= SECONDS_BETWEEN_LINES and done < total:
                    left_s = (now - start) / done * (total - done)
                    self._write(f"levit-edge: {label}: {done} of {total}, about {left_s:.0f} s left")
                    last = now

    @contextmanager
    def step(self, label: str) -> Iterator[None]:
        """Say when the phase starts and how long it took. A phase that fails gets no second line."""
        start = self._clock()
        self._write(f"levit-edge: {label} ...")
        yield
        self._write(f"levit-edge: {label}: done in {self._clock() - start:.1f} s")


@contextmanager
def stderr_progress() -> Iterator[Progress]:
    """Bars when standard error is a terminal, lines otherwise."""
    console = Console(stderr=True, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        yield LineProgress(lambda line: console.print(line, soft_wrap=True))
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, transient=True, redirect_stdout=False) as bars:
        yield BarProgress(bars)
