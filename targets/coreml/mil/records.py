"""What a Core ML program consists of once it has been read: names, types and constants, but no code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

# ``declared``: every tensor is rounded to the type that the program declares; ``float32``: no tensor is rounded to
# float16; ``float16``: every float tensor is, except the float32 input and output. Integers are exact in all three.
Precision = Literal["declared", "float32", "float16"]
PRECISIONS: tuple[Precision, ...] = ("declared", "float32", "float16")

# The MIL names of the types that the interpreter computes with.
FLOATS = ("fp16", "fp32")
INTEGER_RANGES: Mapping[str, tuple[int, int]] = {
    "int8": (-(2**7), 2**7 - 1),
    "uint8": (0, 2**8 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1),
}
DTYPES = (*FLOATS, *INTEGER_RANGES, "bool")


@dataclass(frozen=True)
class Value:
    """A tensor of the program: its name, MIL type (one of DTYPES) and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Quantization:
    """``real = scale * (integer - zero_point)``; scale float32 and zero_point int32, both [] or, per channel, [C].

    ``axis`` is the axis of the channels, or None where the whole tensor has one scale.
    """

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]
    dtype: str
    axis: int | None = None

    def real(self, integers: NDArray[np.float32]) -> NDArray[np.float32]:
        """The real numbers that ``integers`` stand for: float32 of the same shape."""
        scale, zero_point = self.scale, self.zero_point
        if self.axis is not None:
            along = [1] * integers.ndim
            along[self.axis] = -1
            scale, zero_point = scale.reshape(along), zero_point.reshape(along)  # [C] -> [1, C, 1, 1] for axis 1
        real: NDArray[np.float32] = scale * (integers - zero_point.astype(np.float32))
        return real


@dataclass(frozen=True)
class Operation:
    """One operator of the program.

    ``inputs`` names the tensors that it reads, constants included, by argument; ``attributes`` are its other arguments
    as Python values. ``quantization`` says what the integers of its output stand for. It is None where the output is
    not such integers, and after a move that changes the axis of their scales.
    """

    type: str
    outputs: tuple[Value, ...]
    inputs: Mapping[str, tuple[str, ...]]
    attributes: Mapping[str, Any]
    quantization: Quantization | None = None

    @property
    def input_names(self) -> tuple[str, ...]:
        """The tensors that it reads, in the order of its arguments."""
        return tuple(name for names in self.inputs.values() for name in names)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The tensors that it writes: several for ``split``, one for every other operator."""
        return tuple(value.name for value in self.outputs)


@dataclass(frozen=True)
class Constant:
    """A tensor stored in the package, exactly as on disk."""

    dtype: str
    values: NDArray[Any]


@dataclass(frozen=True)
class Source:
    """A whole program. ``constants`` are the stored tensors that operators read, by name."""

    package: Path
    input: Value
    output: Value
    operations: tuple[Operation, ...]
    constants: Mapping[str, Constant]


@dataclass(frozen=True)
class Traced:
    """One tensor for one image: ``values`` float32, and ``integers`` int32 where the tensor is stored as integers.

    For integers with a scale, ``values`` is ``scale * (integers - zero_point)``.
    """

    values: NDArray[np.float32]
    integers: NDArray[np.int32] | None = None
