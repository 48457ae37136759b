"""Quantize, dequantize, and constants stored compressed. Integers are whole numbers in float32.

Source: coremltools 9, MIL operator reference, iOS 17 ``quantization_ops``, iOS 16 ``constexpr_ops``, iOS 18
``compression``. The reference does not say how ``quantize`` rounds: its own value inference takes ties to even, and so
does this. The quotient is one float32 division, which is exact enough that float16 operands never round twice.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from targets.coreml.mil.operator import Operator
from targets.coreml.mil.records import INTEGER_RANGES

_STORED = ("int8", "uint8")


def _along(parameter: Tensor, axis: int | None, rank: int) -> Tensor:
    """A scalar as it is; [C] -> [1, ..., C, ..., 1] of ``rank`` with C on ``axis``."""
    if parameter.dim() == 0:
        return parameter
    if axis is None:
        raise ValueError("a vector of scales needs an axis")
    shape = [1] * rank
    shape[axis] = parameter.numel()
    return parameter.reshape(shape)


def quantize(
    input: Tensor, scale: Tensor, output_dtype: str, zero_point: Tensor | None = None, axis: int | None = None
) -> Tensor:
    """``clip(round(input / scale) + zero_point)``: float of any shape -> whole numbers of ``output_dtype``."""
    whole = torch.div(input, _along(scale, axis, input.dim())).round_()
    if zero_point is not None:
        whole.add_(_along(zero_point, axis, input.dim()))
    low, high = INTEGER_RANGES[output_dtype]
    return F.hardtanh_(whole, float(low), float(high))  # a clamp in place; torch batches no clamp_


def dequantize(input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: int | None = None) -> Tensor:
    """``scale * (input - zero_point)``: whole numbers of any shape -> float."""
    scale = _along(scale, axis, input.dim())
    if zero_point is None:
        return torch.mul(input, scale)
    return torch.sub(input, _along(zero_point, axis, input.dim())).mul_(scale)


def constexpr_affine_dequantize(quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: int) -> Tensor:
    """``scale * (quantized_data - zero_point)``; scale and zero point are scalars or [C] on ``axis``."""
    return dequantize(quantized_data, scale, zero_point, axis)


def constexpr_blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """``scale * (data - offset)``, each scale for a block of data.shape / scale.shape elements along every axis."""

    def spread(blocks: Tensor) -> Tensor:
        for axis, (size, count) in enumerate(zip(data.shape, blocks.shape, strict=True)):
            if size % count:
                raise ValueError(f"{count} blocks do not divide axis {axis} of {size}")
            blocks = blocks.repeat_interleave(size // count, dim=axis)
        return blocks

    shifted = data if offset is None else data - spread(offset)
    return shifted * spread(scale)


def constexpr_cast(source_val: Tensor, output_dtype: str) -> Tensor:
    """float16 numbers as float32."""
    del output_dtype
    return source_val


OPERATORS: dict[str, Operator] = {
    "quantize": Operator(quantize, ("input", "scale", "zero_point"), allowed={"output_dtype": _STORED}),
    "dequantize": Operator(dequantize, ("input", "scale", "zero_point")),
    "constexpr_affine_dequantize": Operator(constexpr_affine_dequantize, ("quantized_data", "zero_point", "scale")),
    "constexpr_blockwise_shift_scale": Operator(constexpr_blockwise_shift_scale, ("data", "scale", "offset")),
    "constexpr_cast": Operator(constexpr_cast, ("source_val",), exact=True, allowed={"output_dtype": ("fp32",)}),
}
