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

    The parameters of ``compute`` are the operator's own arguments with their defaults; those in ``tensors`` come as
    torch tensors (the one of a ``variadic`` operator as a tuple of them), the others as Python values. Floats are
    float32 whatever the program declares; int8 and uint8 are whole numbers in float32, so that NaN survives them; other
    integers are int32. ``exact``: what it makes of float16 numbers are float16 numbers, with nothing to round.
    ``allowed`` are the known values of an argument that has modes. ``compute`` raises ValueError for what the
    reference does not define.
    """

    compute: Callable[..., Result]
    tensors: tuple[str, ...] = ("x",)
    exact: bool = False
    variadic: bool = False
    allowed: Mapping[str, tuple[object, ...]] = field(default_factory=dict)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments it knows."""
        return tuple(inspect.signature(self.compute).parameters)
