"""From the class names of a data set to the class indices of a model."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib.resources import files

IMAGENET_CLASSES = 1000
_WNID = re.compile(r"n\d{8}")


def class_indices(names: Collection[str], labels: Sequence[str]) -> dict[str, int]:
    """The index in ``labels`` of each class name; names without an index are left out.

    Three rules are tried in order, and the first that finds an index for any name is used for the whole data set:

    1. The name equals a label, or one of a label's comma-separated parts (``tench, Tinca tinca``). Letter case is
       ignored and ``_`` equals a space. A name that matches several labels gets no index.
    2. All names are whole numbers. They are the indices. If one is too large, no name gets an index.
    3. All names are ImageNet wnids, such as ``n01440764``. If there are as many names as labels, their sorted order
       gives the indices; otherwise, if the model has 1,000 classes, ImageNet's order does.
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
        return {}  # counted from 1, or meant for another model: every index would be wrong
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
    """The 1,000 ImageNet wnids in the order of their class indices."""
    text = files("calibration").joinpath("imagenet_wnids.txt").read_text(encoding="ascii")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))
