"""Layers with weights, products of tensors, normalization and pooling.

Source: coremltools 9, MIL operator reference, ``linear``, ``conv``, ``normalization``, ``pool``. It describes the
padding ``same`` in two ways that differ for even kernels and for strides, so only where both agree is it known.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from targets.coreml.mil.operator import Operator

_PAD_TYPES = ("valid", "custom", "same", "same_lower")
_CONVOLUTIONS = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
_AVERAGES = {3: F.avg_pool1d, 4: F.avg_pool2d, 5: F.avg_pool3d}
_MAXIMA = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """[..., D_in] x [D_out, D_in] -> [..., D_out]: ``x @ weight.T + bias``."""
    return F.linear(x, weight, bias)


def matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """Products of matrices, broadcast over the axes before the last two; 1-D operands are rows and columns."""
    left = x.transpose(-1, -2) if transpose_x and x.dim() > 1 else x  # [..., K, M] -> [..., M, K]
    right = y.transpose(-1, -2) if transpose_y and y.dim() > 1 else y  # [..., N, K] -> [..., K, N]
    return torch.matmul(left, right)


def _padding(
    pad_type: str, pad: Sequence[int] | None, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int]:
    """(before, after) of each spatial axis, first axis first."""
    if pad_type == "custom":
        if pad is None or len(pad) != 2 * len(kernel):
            raise ValueError("custom padding needs two numbers for each spatial axis")
        return list(pad)
    if pad_type == "valid":
        return [0] * (2 * len(kernel))
    spans = [(size - 1) * dilation for size, dilation in zip(kernel, dilations, strict=True)]
    if any(stride != 1 for stride in strides) or any(span % 2 for span in spans):
        raise ValueError(f"pad_type {pad_type} is known for stride 1 and odd kernels only")
    return [span // 2 for span in spans for _ in range(2)]


def _padded(x: Tensor, padding: list[int]) -> tuple[Tensor, list[int]]:
    """What is left to pad symmetrically, after ``x`` itself has been padded where the two sides differ."""
    before, after = padding[0::2], padding[1::2]
    if before == after:
        return x, before
    return _pad_spatial(x, padding, 0.0), [0] * len(before)


def _pad_spatial(x: Tensor, padding: list[int], value: float) -> Tensor:
    """``x`` with ``padding`` (before, after, of the first spatial axis on) around it; torch counts from the last."""
    last_first = [size for axis in reversed(range(len(padding) // 2)) for size in padding[2 * axis : 2 * axis + 2]]
    return F.pad(x, last_first, value=value)


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
    """[N, C_in, *D] x [C_out, C_in / groups, *K] -> [N, C_out, *D'], with one to three spatial axes."""
    kernel = weight.shape[2:]
    ones = [1] * len(kernel)
    strides, dilations = list(strides or ones), list(dilations or ones)
    x, padding = _padded(x, _padding(pad_type, pad, kernel, strides, dilations))
    return _CONVOLUTIONS[x.dim()](x, weight, bias, strides, padding, dilations, groups)


def avg_pool(
    x: Tensor,
    kernel_sizes: Sequence[int],
    pad_type: str,
    strides: Sequence[int] | None = None,
    pad: Sequence[int] | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Tensor:
    """[N, C, *D] -> [N, C, *D']: the mean of each window, with or without the zeros around the tensor."""
    del ceil_mode  # False, the only value allowed
    ones = [1] * len(kernel_sizes)
    steps = list(strides or ones)
    padding = _padding(pad_type, pad, kernel_sizes, steps, ones)
    total = _AVERAGES[x.dim()](*_window(x, kernel_sizes, steps, padding, 0.0))
    if not exclude_padding_from_average:
        return total
    inside = _AVERAGES[x.dim()](*_window(torch.ones_like(x), kernel_sizes, steps, padding, 0.0))
    return total / inside


def max_pool(
    x: Tensor,
    kernel_sizes: Sequence[int],
    pad_type: str,
    strides: Sequence[int] | None = None,
    pad: Sequence[int] | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """[N, C, *D] -> [N, C, *D']: the maximum of each window; what is padded never is one."""
    del ceil_mode  # False, the only value allowed
    ones = [1] * len(kernel_sizes)
    steps = list(strides or ones)
    padding = _padding(pad_type, pad, kernel_sizes, steps, ones)
    return _MAXIMA[x.dim()](*_window(x, kernel_sizes, steps, padding, -torch.inf))


def _window(
    x: Tensor, kernel: Sequence[int], strides: list[int], padding: list[int], value: float
) -> tuple[Tensor, list[int], list[int]]:
    """The arguments of a pooling over ``x`` padded with ``value``."""
    return _pad_spatial(x, padding, value), list(kernel), strides


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
    """``gamma * (x - mean) / sqrt(var + epsilon) + beta`` over ``axes``; gamma and beta have the shape of those."""
    over = sorted(axis % x.dim() for axis in (range(x.dim()) if axes is None else axes))
    shape = [size if axis in over else 1 for axis, size in enumerate(x.shape)]  # gamma, beta [*axes] -> [1, ..., *axes]
    centred = x - x.mean(dim=over, keepdim=True)
    normal = centred / torch.sqrt(centred.square().mean(dim=over, keepdim=True) + epsilon)
    scaled = normal if gamma is None else normal * gamma.reshape(shape)
    return scaled if beta is None else scaled + beta.reshape(shape)


_POOL_MODES: dict[str, tuple[object, ...]] = {"pad_type": _PAD_TYPES, "ceil_mode": (False,)}

OPERATORS: dict[str, Operator] = {
    "linear": Operator(linear, ("x", "weight", "bias")),
    "matmul": Operator(matmul, ("x", "y")),
    "conv": Operator(conv, ("x", "weight", "bias"), allowed={"pad_type": _PAD_TYPES}),
    "avg_pool": Operator(avg_pool, allowed=_POOL_MODES),
    "max_pool": Operator(max_pool, exact=True, allowed=_POOL_MODES),
    "batch_norm": Operator(batch_norm, ("x", "mean", "variance", "gamma", "beta")),
    "layer_norm": Operator(layer_norm, ("x", "gamma", "beta")),
}
