"""Operators that move values and compute nothing: reshape, permute, cut, join, pad.

Source: coremltools 9, MIL operator reference, ``tensor_transformation`` and ``tensor_operation``, in their iOS 17
versions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from targets.coreml.mil.operator import Operator


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """``x`` in ``shape``, where -1 stands for the elements that remain and 0 for the size of ``x`` on the same axis.

    Axes are matched from the last one back. A 0 before the first axis of ``x`` stands for 1.
    """
    aligned = [1] * (len(shape) - x.dim()) + list(x.shape[max(0, x.dim() - len(shape)) :])
    return x.reshape([size or same for size, same in zip(shape, aligned, strict=True)])


def transpose(x: Tensor, perm: Sequence[int]) -> Tensor:
    """Axis ``i`` of the result is axis ``perm[i]`` of ``x``."""
    return x.permute(*perm)


def expand_dims(x: Tensor, axes: Sequence[int]) -> Tensor:
    """``x`` with an axis of size 1 inserted at each of ``axes``, which are positions in the result."""
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)  # [..., D] -> [..., 1, D]
    return x


def squeeze(x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    """``x`` without those of ``axes`` whose size is 1; by default without every axis of size 1."""
    return x.squeeze(tuple(range(x.dim()) if axes is None else axes))


def slice_by_index(
    x: Tensor,
    begin: Sequence[int],
    end: Sequence[int],
    stride: Sequence[int] | None = None,
    begin_mask: Sequence[bool] | None = None,
    end_mask: Sequence[bool] | None = None,
    squeeze_mask: Sequence[bool] | None = None,
) -> Tensor:
    """``x[begin:end:stride]`` on every axis.

    Where a mask is set, the axis starts at its first or ends at its last element; where ``squeeze_mask`` is set,
    ``begin`` is one index and the axis is dropped.
    """
    unset = [False] * x.dim()
    first, last, index = begin_mask or unset, end_mask or unset, squeeze_mask or unset
    for axis, step in enumerate(stride or [1] * x.dim()):
        if index[axis]:
            x = x.narrow(axis, begin[axis] % x.shape[axis], 1)
            continue
        cut = slice(None if first[axis] else begin[axis], None if last[axis] else end[axis], step)
        kept = range(x.shape[axis])[cut]
        if kept.step > 0:
            x = x[(slice(None),) * axis + (slice(kept.start, kept.stop, kept.step),)]
        else:  # torch slices only forwards
            x = x.index_select(axis, torch.tensor(list(kept), dtype=torch.int64))
    return x.squeeze(tuple(axis for axis, drop in enumerate(index) if drop))


def split(
    x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Sequence[int] | None = None
) -> tuple[Tensor, ...]:
    """``x`` cut along ``axis`` into parts of ``split_sizes``, or into ``num_splits`` equal ones."""
    if split_sizes is not None:
        return torch.split(x, list(split_sizes), dim=axis)
    if not num_splits or x.shape[axis] % num_splits:
        raise ValueError(f"an axis of {x.shape[axis]} cannot be cut into {num_splits} equal parts")
    return torch.split(x, x.shape[axis] // num_splits, dim=axis)


def concat(values: tuple[Tensor, ...], axis: int, interleave: bool = False) -> Tensor:
    """The ``values`` one after the other along ``axis``."""
    del interleave  # False, the only value allowed
    return torch.cat(values, dim=axis)


def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    """``x`` with (before, after) elements of ``constant_val`` around each of its last axes, first of them first."""
    del mode  # constant, the only value allowed
    last_first = [size for axis in reversed(range(len(pad) // 2)) for size in pad[2 * axis : 2 * axis + 2]]
    return F.pad(x, last_first, value=constant_val)


OPERATORS: dict[str, Operator] = {
    "reshape": Operator(reshape, exact=True),
    "transpose": Operator(transpose, exact=True),
    "expand_dims": Operator(expand_dims, exact=True),
    "squeeze": Operator(squeeze, exact=True),
    "slice_by_index": Operator(slice_by_index, exact=True),
    "split": Operator(split, exact=True),
    "concat": Operator(concat, ("values",), exact=True, variadic=True, allowed={"interleave": (False,)}),
    "pad": Operator(pad, allowed={"mode": ("constant",)}),
}
