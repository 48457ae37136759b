"""Elementwise operators: arithmetic, comparisons, and functions of one tensor.

Source: coremltools 9, MIL operator reference, ``elementwise_binary`` and ``elementwise_unary``. Where it gives no
rounding, ``round`` takes ties to even ("0.5 is rounded to 0").
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from targets.coreml.mil.operator import Operator
from targets.coreml.mil.records import DTYPES, FLOATS, INTEGER_RANGES


def _binary(function: Callable[[Tensor, Tensor], Tensor], exact: bool = False) -> Operator:
    def compute(x: Tensor, y: Tensor) -> Tensor:
        return function(x, y)

    return Operator(compute, tensors=("x", "y"), exact=exact)


def _unary(function: Callable[[Tensor], Tensor], exact: bool = False) -> Operator:
    def compute(x: Tensor) -> Tensor:
        return function(x)

    return Operator(compute, exact=exact)


def real_div(x: Tensor, y: Tensor) -> Tensor:
    """``x / y`` of floats; the reference leaves open how integers are rounded."""
    if not (x.is_floating_point() and y.is_floating_point()):
        raise ValueError("the quotient of integers is not defined")
    return torch.div(x, y)


def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    """``min(max(x, alpha), beta)``."""
    return torch.clamp(x, alpha, beta)


def threshold(x: Tensor, alpha: float) -> Tensor:
    """``max(x, alpha)``."""
    return torch.clamp(x, min=alpha)


def inverse(x: Tensor, epsilon: float = 1e-4) -> Tensor:
    """``1 / (x + epsilon)``."""
    return torch.reciprocal(x + epsilon)


def log(x: Tensor, epsilon: float = 1e-45) -> Tensor:
    """``log(x + epsilon)``."""
    return torch.log(x + epsilon)


def rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    """``1 / sqrt(x + epsilon)``."""
    return torch.rsqrt(x + epsilon)


def cast(x: Tensor, dtype: str) -> Tensor:
    """``x`` as ``dtype``. Floats lose their fraction on the way to integers, and saturate."""
    if dtype == "bool":
        return x != 0
    values = x.to(torch.float32) if x.dtype is torch.bool else x
    if dtype in FLOATS:
        return values.to(torch.float32)
    whole = torch.clamp(torch.trunc(values.to(torch.float64)), *INTEGER_RANGES[dtype])
    return whole.to(torch.float32 if dtype in ("int8", "uint8") else torch.int32)


def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``a`` where ``cond`` holds, else ``b``."""
    return torch.where(cond, a, b)


OPERATORS: dict[str, Operator] = {
    "add": _binary(torch.add),
    "sub": _binary(torch.sub),
    "mul": _binary(torch.mul),
    "real_div": Operator(real_div, tensors=("x", "y")),
    "floor_div": _binary(torch.floor_divide),
    "mod": _binary(torch.remainder),
    "pow": _binary(torch.pow),
    "maximum": _binary(torch.maximum, exact=True),
    "minimum": _binary(torch.minimum, exact=True),
    "equal": _binary(torch.eq),
    "not_equal": _binary(torch.ne),
    "less": _binary(torch.lt),
    "less_equal": _binary(torch.le),
    "greater": _binary(torch.gt),
    "greater_equal": _binary(torch.ge),
    "logical_and": _binary(torch.logical_and),
    "logical_or": _binary(torch.logical_or),
    "logical_xor": _binary(torch.logical_xor),
    "logical_not": _unary(torch.logical_not),
    "abs": _unary(torch.abs, exact=True),
    "ceil": _unary(torch.ceil, exact=True),
    "floor": _unary(torch.floor, exact=True),
    "round": _unary(torch.round, exact=True),
    "sign": _unary(torch.sign, exact=True),
    "cos": _unary(torch.cos),
    "sin": _unary(torch.sin),
    "tanh": _unary(torch.tanh),
    "erf": _unary(torch.erf),
    "exp": _unary(torch.exp),
    "exp2": _unary(torch.exp2),
    "sqrt": _unary(torch.sqrt),
    "square": _unary(torch.square),
    "clip": Operator(clip),
    "threshold": Operator(threshold),
    "inverse": Operator(inverse),
    "log": Operator(log),
    "rsqrt": Operator(rsqrt),
    "cast": Operator(cast, allowed={"dtype": DTYPES}),
    "select": Operator(select, tensors=("cond", "a", "b"), exact=True),
}
