"""How a long run tells what it is doing: a protocol for libraries; showing it is left to the command line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Phases of a run, those whose length is known and those without inner progress."""

    def track(self, items: Iterable[T], label: str, total: int) -> Iterator[T]:
        """``items`` one by one, counted as they are taken; ``total`` of them are expected."""

    def step(self, label: str) -> AbstractContextManager[None]:
        """A phase that lasts as long as the ``with`` block."""


class _Quiet:
    def track(self, items: Iterable[T], label: str, total: int) -> Iterator[T]:  # noqa: ARG002
        return iter(items)

    def step(self, label: str) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()


QUIET: Progress = _Quiet()
