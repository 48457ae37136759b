"""Progress on standard error: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
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

from levit_edge.progress import Progress

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 10.0


class BarProgress:
    """Bars of the phases that run now; each disappears with its phase."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars

    def track(self, items: Iterable[T], label: str, total: int) -> Iterator[T]:
        """A bar that moves with every item."""
        with self._task(label, total) as task:
            for item in items:
                yield item
                self._bars.advance(task)

    @contextmanager
    def step(self, label: str) -> Iterator[None]:
        """A bar that only pulses."""
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
    """A line when a phase starts, one every ten seconds of a long one, and one when it is done."""

    def __init__(self, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock

    def track(self, items: Iterable[T], label: str, total: int) -> Iterator[T]:
        """Counts the items and tells the time left."""
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
        """Says when it starts and how long it took; a phase that fails says nothing more."""
        start = self._clock()
        self._write(f"levit-edge: {label} ...")
        yield
        self._write(f"levit-edge: {label}: done in {self._clock() - start:.1f} s")


@contextmanager
def stderr_progress() -> Iterator[Progress]:
    """The progress that fits where standard error goes."""
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
