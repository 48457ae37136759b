"""The few phrases that every message shares: lists that stay short, and other people's errors in one line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


def printable(name: str) -> str:
    """``name`` as it is, or with escapes where it would break a one-line message."""
    return name if name.isprintable() else ascii(name)[1:-1]


def listed(names: Iterable[object], most: int = 3, *, quoted: bool = False) -> str:
    """The first ``most`` of ``names`` with commas between them, and how many more there are.

    >>> listed(["a", "b", "c", "d"], most=2)
    'a, b and 2 more'
    """
    every = [printable(str(name)) for name in names]
    shown = ", ".join(f"'{name}'" if quoted else name for name in every[:most])
    return shown if len(every) <= most else f"{shown} and {len(every) - most} more"


def first_line(error: BaseException) -> str:
    """The first line of what ``error`` says, or the name of its class when it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def validation_reason(error: ValidationError) -> str:
    """The first problem of a pydantic error in words: ``place: what is wrong``, or what is wrong with the JSON."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return f"is not JSON: {first['msg']}"
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
