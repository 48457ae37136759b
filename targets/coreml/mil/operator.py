"""What an operator is to the interpreter: a function of torch tensors, and which of its arguments are tensors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

Result = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class Operator:
    """An operator of the MIL operator reference.

    The parameters of ``compute`` are the operator's own arguments with their defaults. Those in ``tensors`` arrive as
    torch tensors (that of a ``variadic`` operator as a tuple of tensors), the others as Python values. Every float
    tensor is float32, whatever type the program declares. int8 and uint8 tensors are whole numbers in float32, which
    preserves NaN; other integers are int32.

    ``exact``: from float16 numbers it makes float16 numbers, so that its result needs no rounding. ``allowed`` lists
    the known values of an argument that selects a mode. ``compute`` raises ValueError for a case that the reference
    does not define.
    """

    compute: Callable[..., Result]
    tensors: tuple[str, ...] = ("x",)
    exact: bool = False
    variadic: bool = False
    allowed: Mapping[str, tuple[object, ...]] = field(default_factory=dict)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The names of all arguments that it knows."""
        return tuple(inspect.signature(self.compute).parameters)
