"""Choose the images that calibrate the model: balanced over the classes, and fixed by a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import zip_longest

from calibration.dataset import ImageItem
from levit_edge.errors import InputError


def sample(items: Sequence[ImageItem], count: int, seed: int) -> tuple[ImageItem, ...]:
    """``count`` images: one of each class in turn, until there are enough. Images without a class count as one class.

    So the first n of the result are balanced for every n. Classes, and the images of each, are taken in the order of a
    SHA-256 of the seed and their name. The choice therefore depends on the names and the seed alone, not on the order
    of ``items``, the Python version or the platform. Raises InputError for a ``count`` below 1 or above the number of
    items.
    """
    if count < 1:
        raise InputError(f"sample count is {count}; it must be at least 1")
    if count > len(items):
        raise InputError(f"{count} images were asked for; the data has {len(items)}")
    by_class: dict[str, list[ImageItem]] = {}
    for item in items:
        by_class.setdefault(item.class_name or "", []).append(item)
    order = sorted(by_class, key=lambda name: _rank("class", name, seed))
    columns = [sorted(by_class[name], key=lambda item: _rank("image", item.name, seed)) for name in order]
    rounds = (item for row in zip_longest(*columns) for item in row if item is not None)
    return tuple(item for item, _ in zip(rounds, range(count), strict=False))


def remainder(items: Sequence[ImageItem], sampled: Sequence[ImageItem]) -> tuple[ImageItem, ...]:
    """The ``items`` that are not in ``sampled``, in their order."""
    taken = {item.name for item in sampled}
    return tuple(item for item in items if item.name not in taken)


def _rank(kind: str, name: str, seed: int) -> tuple[bytes, str]:
    encoded = name.encode("utf-8", "surrogateescape")
    return hashlib.sha256(b"\0".join((kind.encode(), str(seed).encode(), encoded))).digest(), name
