"""Class names: those that the checkpoint states, those that the user gives, or numbers."""

from __future__ import annotations

from collections.abc import Sequence

from levit_edge.errors import InputError


def numbered_labels(count: int) -> tuple[str, ...]:
    """``LABEL_0``, ``LABEL_1``, … for a checkpoint that names no classes (the Hugging Face convention)."""
    return tuple(f"LABEL_{index}" for index in range(count))


def choose_labels(count: int, stated: Sequence[str] | None, given: Sequence[str] | None) -> tuple[str, ...]:
    """The names of ``count`` classes: those of the checkpoint, else the given ones, else numbers.

    Numbered names count as no names. Raises InputError when ``given`` are too few or too many, or contradict the
    names that the checkpoint states.
    """
    if given is not None and len(given) != count:
        raise InputError(f"{len(given)} labels were given; the checkpoint has {count} classes")
    named = tuple(stated) if count and stated is not None and tuple(stated) != numbered_labels(count) else None
    if named is not None and given is not None and tuple(given) != named:
        index = next(index for index, (ours, theirs) in enumerate(zip(named, given, strict=True)) if ours != theirs)
        raise InputError(
            f"the given labels differ from those in config.json "
            f"(class {index}: {named[index]!r} and {given[index]!r}); give none"
        )
    return named or tuple(given or numbered_labels(count))
