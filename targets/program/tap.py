"""What a tap gives: the value of every layer of a model, as the runtime computed it on one image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from levit_edge.errors import InputError
from targets.target import Image

Kind = Literal["conv", "linear", "matmul"]


@dataclass(frozen=True)
class Affine:
    """How integers stand for real numbers: ``real = scale * (integer - zero_point)``, with both of them 0..255.

    Signed types are counted from their lowest integer: converters exchange int8 and uint8 as they like.
    """

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Layer:
    """The output of one convolution, linear layer or matrix product, as it is stored.

    ``data`` are the integers of ``affine`` as uint8, or float32 where that is None: [1, C, H, W] for ``conv``, [N, C]
    for ``linear`` and [heads, N, M] for ``matmul``. ``name`` is what the model calls the layer.
    """

    kind: Kind
    name: str
    data: NDArray[Any]
    affine: Affine | None = None

    @property
    def values(self) -> NDArray[np.float32]:
        """The real numbers: float32, shaped like ``data``."""
        if self.affine is None:
            return np.asarray(self.data, dtype=np.float32)
        steps = self.data.astype(np.float32) - np.float32(self.affine.zero_point)
        real: NDArray[np.float32] = steps * np.float32(self.affine.scale)
        return real


def stored(kind: Kind, name: str, integers: NDArray[Any], scale: float, zero_point: int, lowest: int) -> Layer:
    """A layer of 8-bit ``integers`` of which ``lowest`` (-128 or 0) is the least that their type holds."""
    return Layer(kind, name, (integers.astype(np.int32) - lowest).astype(np.uint8), Affine(scale, zero_point - lowest))


Tap = Callable[[Path, Image], tuple[Layer, ...]]


def check_aligned(found: Sequence[Layer], expected: Sequence[Layer], found_name: str, expected_name: str) -> None:
    """InputError unless both have the same layers: in number, and each in its kind and shape.

    Whether a layer is stored as integers may differ: a float reference stores none.
    """
    if len(found) != len(expected):
        raise InputError(
            f"{found_name} does not match {expected_name}: it has {len(found)} layers, expected {len(expected)}"
        )
    for index, (layer, other) in enumerate(zip(found, expected, strict=True)):
        if (layer.kind, layer.data.shape) != (other.kind, other.data.shape):
            raise InputError(
                f"{found_name} does not match {expected_name}: layer {index} ({other.name}) is "
                f"{layer.kind} {list(layer.data.shape)}, expected {other.kind} {list(other.data.shape)}"
            )
