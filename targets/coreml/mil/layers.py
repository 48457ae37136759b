"""Layers with weights, products of tensors, normalization, pooling and means.

Source: coremltools 9, MIL operator reference, ``linear``, ``conv``, ``normalization``, ``pool``, ``reduction``. Of the
modes of padding only those are known that state their numbers: the reference describes ``same`` in two ways that
contradict each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from targets.coreml.mil.operator import Operator


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """[..., D_in] x [D_out, D_in] -> [..., D_out]: ``x @ weight.T + bias``."""
    return F.linear(x, weight, bias)


def matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """Matrix products, broadcast over the axes before the last two; a 1-D operand is a row or a column."""
    left = x.transpose(-1, -2) if transpose_x and x.dim() > 1 else x  # [..., K, M] -> [..., M, K]
    right = y.transpose(-1, -2) if transpose_y and y.dim() > 1 else y  # [..., N, K] -> [..., K, N]
    return torch.matmul(left, right)


def _padding(x: Tensor, pad_type: str, pad: Sequence[int] | None) -> list[int]:
    """(before, after) of the height, then of the width."""
    if x.dim() != 4:
        raise ValueError(f"only images [N, C, H, W] are known, not {list(x.shape)}")
    if pad_type == "valid":
        return [0, 0, 0, 0]
    if pad is None or len(pad) != 4:
        raise ValueError("custom padding needs two numbers for each spatial axis")
    return list(pad)


def _pad_image(x: Tensor, padding: list[int], value: float) -> Tensor:
    """[N, C, H, W] with ``padding`` (before, after, of the height first) around it; torch starts with the width."""
    return F.pad(x, [*padding[2:], *padding[:2]], value=value)


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Sequence[int] | None = None,
    pad_type: str = "valid",
    pad: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    groups: int = 1,
) -> Tensor:
    """[N, C_in, H, W] x [C_out, C_in / groups, K_h, K_w] -> [N, C_out, H', W']."""
    padding = _padding(x, pad_type, pad)
    both_sides = padding[0::2]
    if both_sides != padding[1::2]:
        x, both_sides = _pad_image(x, padding, 0.0), [0, 0]
    return F.conv2d(x, weight, bias, list(strides or [1, 1]), both_sides, list(dilations or [1, 1]), groups)


def avg_pool(
    x: Tensor,
    kernel_sizes: Sequence[int],
    pad_type: str,
    strides: Sequence[int] | None = None,
    pad: Sequence[int] | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Tensor:
    """[N, C, H, W] -> [N, C, H', W']: the mean of each window, with or without the zeros of the padding."""
    del ceil_mode  # False, the only value allowed
    padding, kernel, steps = _padding(x, pad_type, pad), list(kernel_sizes), list(strides or [1, 1])
    mean = F.avg_pool2d(_pad_image(x, padding, 0.0), kernel, steps)
    if not exclude_padding_from_average:
        return mean
    inside = F.avg_pool2d(_pad_image(torch.ones_like(x), padding, 0.0), kernel, steps)  # share that is not padding
    return mean / inside


def max_pool(
    x: Tensor,
    kernel_sizes: Sequence[int],
    pad_type: str,
    strides: Sequence[int] | None = None,
    pad: Sequence[int] | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """[N, C, H, W] -> [N, C, H', W']: the maximum of each window; padding never is the maximum."""
    del ceil_mode  # False, the only value allowed
    padded = _pad_image(x, _padding(x, pad_type, pad), -torch.inf)
    return F.max_pool2d(padded, list(kernel_sizes), list(strides or [1, 1]))


def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """[N, C, *D]: ``gamma * (x - mean) / sqrt(variance + epsilon) + beta`` per channel."""
    return F.batch_norm(x, mean, variance, gamma, beta, training=False, eps=epsilon)


def layer_norm(
    x: Tensor,
    axes: Sequence[int] | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """``gamma * (x - mean) / sqrt(variance + epsilon) + beta`` over ``axes``, which gamma and beta span."""
    over = sorted(axis % x.dim() for axis in (range(x.dim()) if axes is None else axes))
    shape = [size if axis in over else 1 for axis, size in enumerate(x.shape)]
    centred = x - x.mean(dim=over, keepdim=True)
    normal = centred / torch.sqrt(centred.square().mean(dim=over, keepdim=True) + epsilon)
    scaled = normal if gamma is None else normal * gamma.reshape(shape)  # [*axes] -> [1, ..., *axes]
    return scaled if beta is None else scaled + beta.reshape(shape)  # [*axes] -> [1, ..., *axes]


def reduce_mean(x: Tensor, axes: Sequence[int] | None = None, keep_dims: bool = False) -> Tensor:
    """The mean over ``axes``, by default over all."""
    return torch.mean(x, dim=list(range(x.dim()) if axes is None else axes), keepdim=keep_dims)


_PAD_TYPES: tuple[object, ...] = ("valid", "custom")
_POOL_MODES = {"pad_type": _PAD_TYPES, "ceil_mode": (False,)}

OPERATORS: dict[str, Operator] = {
    "linear": Operator(linear, ("x", "weight", "bias")),
    "matmul": Operator(matmul, ("x", "y")),
    "conv": Operator(conv, ("x", "weight", "bias"), allowed={"pad_type": _PAD_TYPES}),
    "avg_pool": Operator(avg_pool, allowed=_POOL_MODES),
    "max_pool": Operator(max_pool, exact=True, allowed=_POOL_MODES),
    "batch_norm": Operator(batch_norm, ("x", "mean", "variance", "gamma", "beta")),
    "layer_norm": Operator(layer_norm, ("x", "gamma", "beta")),
    "reduce_mean": Operator(reduce_mean),
}
