"""Elementwise operators: arithmetic, functions of one tensor, and casts.

Source: coremltools 9, MIL operator reference, ``elementwise_binary`` and ``elementwise_unary``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from targets.coreml.mil.operator import Operator
from targets.coreml.mil.records import DTYPES, FLOATS, INTEGER_RANGES


def add(x: Tensor, y: Tensor) -> Tensor:
    """``x + y``."""
    return torch.add(x, y)


def sub(x: Tensor, y: Tensor) -> Tensor:
    """``x - y``."""
    return torch.sub(x, y)


def mul(x: Tensor, y: Tensor) -> Tensor:
    """``x * y``."""
    return torch.mul(x, y)


def real_div(x: Tensor, y: Tensor) -> Tensor:
    """``x / y`` of floats; the reference does not say how a quotient of integers is rounded."""
    if not (x.is_floating_point() and y.is_floating_point()):
        raise ValueError("the quotient of integers is not defined")
    return torch.div(x, y)


def sqrt(x: Tensor) -> Tensor:
    """The square root."""
    return torch.sqrt(x)


def square(x: Tensor) -> Tensor:
    """``x * x``."""
    return torch.square(x)


def cast(x: Tensor, dtype: str) -> Tensor:
    """``x`` as ``dtype``. A float that becomes an integer loses its fraction and saturates."""
    if dtype == "bool":
        return x != 0
    values = x.to(torch.float32) if x.dtype is torch.bool else x
    if dtype in FLOATS:
        return values.to(torch.float32)
    whole = torch.clamp(torch.trunc(values.to(torch.float64)), *INTEGER_RANGES[dtype])
    return whole.to(torch.float32 if dtype in ("int8", "uint8") else torch.int32)


OPERATORS: dict[str, Operator] = {
    "add": Operator(add, ("x", "y")),
    "sub": Operator(sub, ("x", "y")),
    "mul": Operator(mul, ("x", "y")),
    "real_div": Operator(real_div, ("x", "y")),
    "sqrt": Operator(sqrt),
    "square": Operator(square),
    "cast": Operator(cast, allowed={"dtype": DTYPES}),
}
