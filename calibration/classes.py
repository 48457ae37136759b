"""From the class names of a data set to the class indices of a model."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib.resources import files

IMAGENET_CLASSES = 1000
_WNID = re.compile(r"n\d{8}")


def class_indices(names: Collection[str], labels: Sequence[str]) -> dict[str, int]:
    """Index of every class name that one rule can place; names it cannot place are absent.

    The first rule that places any name decides for the whole data set:

    1. the name is a label, or one of a label's comma-separated parts (``tench, Tinca tinca``), in any letter case,
       ``_`` read as a space; a name that fits several labels is not placed;
    2. all names are whole numbers: the class indices themselves;
    3. all names are ImageNet wnids: sorted order when there are as many as labels, else, for a model of 1,000
       classes, ImageNet's own order.
    """
    return _by_label(names, labels) or _by_number(names, len(labels)) or _by_wnid(names, len(labels))


def _by_label(names: Iterable[str], labels: Sequence[str]) -> dict[str, int]:
    whole = _index((label, index) for index, label in enumerate(labels))
    parts = _index((part, index) for index, label in enumerate(labels) for part in label.split(","))
    found = {name: whole.get(_fold(name)) or parts.get(_fold(name), set()) for name in names}
    return {name: min(indices) for name, indices in found.items() if len(indices) == 1}


def _index(pairs: Iterable[tuple[str, int]]) -> Mapping[str, set[int]]:
    found: dict[str, set[int]] = {}
    for text, index in pairs:
        found.setdefault(_fold(text), set()).add(index)
    return found


def _fold(text: str) -> str:
    return " ".join(text.replace("_", " ").split()).casefold()


def _by_number(names: Collection[str], count: int) -> dict[str, int]:
    if not all(name.isascii() and name.isdigit() for name in names):
        return {}
    if any(int(name) >= count for name in names):
        return {}  # numbered from 1, or for another model: all of them would be one off
    return {name: int(name) for name in names}


def _by_wnid(names: Collection[str], count: int) -> dict[str, int]:
    if not all(_WNID.fullmatch(name) for name in names):
        return {}
    if len(names) == count:
        return {name: index for index, name in enumerate(sorted(names))}
    if count != IMAGENET_CLASSES:
        return {}
    order = {wnid: index for index, wnid in enumerate(imagenet_wnids())}
    return {name: order[name] for name in names if name in order}


def imagenet_wnids() -> tuple[str, ...]:
    """The 1,000 ImageNet wnids in class-index order."""
    text = files("calibration").joinpath("imagenet_wnids.txt").read_text(encoding="ascii")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))
