"""Quantize, dequantize, and weights stored as integers. Integers are whole numbers in float32.

Source: coremltools 9, MIL operator reference, iOS 17 ``quantization_ops`` and iOS 16 ``constexpr_ops``. The reference
does not say how ``quantize`` rounds: coremltools' own value inference takes ties to even, and so does this. The
quotient is one float32 division, whose 24 bits suffice for float16 operands not to be rounded twice.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from targets.coreml.mil.operator import Operator
from targets.coreml.mil.records import INTEGER_RANGES


def _along(parameter: Tensor, axis: int | None, rank: int) -> Tensor:
    """A scalar as it is; [C] -> [1, ..., C, ..., 1] of ``rank`` with C on ``axis``."""
    if parameter.dim() == 0:
        return parameter
    if axis is None:
        raise ValueError("a vector of scales needs an axis")
    shape = [1] * rank
    shape[axis] = parameter.numel()
    return parameter.reshape(shape)  # [C] -> [1, ..., C, ..., 1]


def quantize(
    input: Tensor, scale: Tensor, output_dtype: str, zero_point: Tensor | None = None, axis: int | None = None
) -> Tensor:
    """``clip(round(input / scale) + zero_point)``: float of any shape -> whole numbers of ``output_dtype``."""
    whole = torch.div(input, _along(scale, axis, input.dim())).round_()
    if zero_point is not None:
        whole.add_(_along(zero_point, axis, input.dim()))
    low, high = INTEGER_RANGES[output_dtype]
    return F.hardtanh_(whole, float(low), float(high))  # clamps in place; torch.vmap knows no clamp_


def dequantize(input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: int | None = None) -> Tensor:
    """``scale * (input - zero_point)``: whole numbers of any shape -> float."""
    scale = _along(scale, axis, input.dim())
    if zero_point is None:
        return torch.mul(input, scale)
    return torch.sub(input, _along(zero_point, axis, input.dim())).mul_(scale)


def constexpr_affine_dequantize(quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: int) -> Tensor:
    """``scale * (quantized_data - zero_point)``; scale and zero point are scalars or [C] on ``axis``."""
    return dequantize(quantized_data, scale, zero_point, axis)


OPERATORS: dict[str, Operator] = {
    "quantize": Operator(quantize, ("input", "scale", "zero_point"), allowed={"output_dtype": ("int8", "uint8")}),
    "dequantize": Operator(dequantize, ("input", "scale", "zero_point")),
    "constexpr_affine_dequantize": Operator(constexpr_affine_dequantize, ("quantized_data", "zero_point", "scale")),
}
