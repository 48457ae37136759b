"""What a tap returns: the output of every layer of a model file, as its runtime computed it for one image.

A tap runs the model file itself with more of its tensors exposed; it computes no layer on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from levit_edge.errors import InputError

Kind = Literal["conv", "linear", "matmul"]


@dataclass(frozen=True)
class Affine:
    """How integers stand for real numbers: ``real = scale * (integer - zero_point)``.

    Integers and zero point count from the lowest integer of their type, so that both lie in 0..255: converters replace
    int8 by uint8 and the other way round.
    """

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Layer:
    """The output of one convolution, linear layer or matrix product, in the form in which it is stored.

    ``data`` is uint8 where ``affine`` says what the integers stand for, else float32: [1, C, H, W] for ``conv``,
    [N, C] for ``linear`` and [heads, N, M] for ``matmul``. ``name`` is the layer's name in the model.
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
    """A layer of 8-bit ``integers`` whose type starts at ``lowest``: -128 or 0."""
    return Layer(kind, name, (integers.astype(np.int32) - lowest).astype(np.uint8), Affine(scale, zero_point - lowest))


def check_aligned(found: Sequence[Layer], expected: Sequence[Layer], found_name: str, expected_name: str) -> None:
    """InputError unless both have the same number of layers, and each pair the same kind and shape.

    One may store a layer as integers and the other as floats: a float reference stores no integers.
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
