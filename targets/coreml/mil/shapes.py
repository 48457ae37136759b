"""Operators that move values and compute nothing: reshape, permute, cut, join.

Source: coremltools 9, MIL operator reference, ``tensor_transformation``, ``tensor_operation``, ``scatter_gather``,
in their iOS 17 versions.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from targets.coreml.mil.operator import Operator

_PAD_MODES = ("constant", "reflect", "replicate")


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """``shape`` with -1 for what is left, and 0 for the size of ``x`` on the same axis, counted from the last.

    A 0 beyond the first axis of ``x`` is 1.
    """
    aligned = [1] * (len(shape) - x.dim()) + list(x.shape[max(0, x.dim() - len(shape)) :])
    return x.reshape([size or same for size, same in zip(shape, aligned, strict=True)])


def transpose(x: Tensor, perm: Sequence[int]) -> Tensor:
    """Axis ``i`` of the result is axis ``perm[i]`` of ``x``."""
    return x.permute(*perm)


def expand_dims(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Axes of size 1 where ``axes``, positions in the result, say."""
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)  # [..., D] -> [..., 1, D]
    return x


def squeeze(x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    """Without those of ``axes`` that have size 1; without all such axes by default."""
    return x.squeeze(tuple(range(x.dim()) if axes is None else axes))


def flatten2d(x: Tensor, axis: int = 1) -> Tensor:
    """[*before, *after] -> [prod(before), prod(after)], cut at ``axis``."""
    return x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))


def slice_by_index(
    x: Tensor,
    begin: Sequence[int],
    end: Sequence[int],
    stride: Sequence[int] | None = None,
    begin_mask: Sequence[bool] | None = None,
    end_mask: Sequence[bool] | None = None,
    squeeze_mask: Sequence[bool] | None = None,
) -> Tensor:
    """``x[begin:end:stride]`` on every axis. A masked begin or end is that of the axis; a squeezed axis is an index."""
    free = [False] * x.dim()
    first, last, index = begin_mask or free, end_mask or free, squeeze_mask or free
    for axis, step in enumerate(stride or [1] * x.dim()):
        if index[axis]:
            x = x.narrow(axis, begin[axis] % x.shape[axis], 1)
            continue
        cut = slice(None if first[axis] else begin[axis], None if last[axis] else end[axis], step)
        x = _cut(x, axis, range(x.shape[axis])[cut])
    return x.squeeze(tuple(axis for axis, drop in enumerate(index) if drop))


def _cut(x: Tensor, axis: int, kept: range) -> Tensor:
    """The ``kept`` indices of ``axis``, in any order."""
    if kept.step > 0:
        return x[(slice(None),) * axis + (slice(kept.start, kept.stop, kept.step),)]
    return x.index_select(axis, torch.tensor(list(kept), dtype=torch.int64))


def slice_by_size(x: Tensor, begin: Sequence[int], size: Sequence[int]) -> Tensor:
    """``size`` elements from ``begin`` on every axis; all that follow where size is -1."""
    for axis, (start, count) in enumerate(zip(begin, size, strict=True)):
        first = start % x.shape[axis] if start < 0 else start
        x = x.narrow(axis, first, x.shape[axis] - first if count == -1 else count)
    return x


def split(
    x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Sequence[int] | None = None
) -> tuple[Tensor, ...]:
    """Parts of ``split_sizes``, or ``num_splits`` equal ones."""
    if split_sizes is not None:
        return torch.split(x, list(split_sizes), dim=axis)
    if not num_splits or x.shape[axis] % num_splits:
        raise ValueError(f"{num_splits} equal parts of an axis of {x.shape[axis]}")
    return torch.split(x, x.shape[axis] // num_splits, dim=axis)


def concat(values: tuple[Tensor, ...], axis: int, interleave: bool = False) -> Tensor:
    """One after the other along ``axis``; element by element by turns where ``interleave``."""
    if not interleave:
        return torch.cat(values, dim=axis)
    at = axis % values[0].dim()
    return torch.stack(values, dim=at + 1).flatten(at, at + 1)  # [..., D, number, ...] -> [..., D * number, ...]


def stack(values: tuple[Tensor, ...], axis: int) -> Tensor:
    """Along a new ``axis``."""
    return torch.stack(values, dim=axis)


def gather(x: Tensor, indices: Tensor, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False) -> Tensor:
    """The slices of ``axis`` that ``indices`` name, [*before, *indices, *after]; no index may be negative."""
    del batch_dims, validate_indices  # 0, the only value allowed; indices are always checked
    at = axis % x.dim()
    chosen = x.index_select(at, indices.reshape(-1).to(torch.int64))
    return chosen.reshape(*x.shape[:at], *indices.shape, *x.shape[at + 1 :])


def tile(x: Tensor, reps: Sequence[int]) -> Tensor:
    """``x`` repeated ``reps`` times along each axis."""
    return x.repeat(*reps)


def reverse(x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    """In the other direction along ``axes``; along all by default."""
    return torch.flip(x, tuple(range(x.dim()) if axes is None else axes))


def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    """(before, after) elements added to each of the last axes."""
    last_first = [size for axis in reversed(range(len(pad) // 2)) for size in pad[2 * axis : 2 * axis + 2]]
    if mode == "constant":
        return F.pad(x, last_first, value=constant_val)
    rank = len(pad) // 2
    spatial = x.reshape(1, -1, *x.shape[x.dim() - rank :])  # [*D] -> [1, C, *padded], as torch wants it
    result = F.pad(spatial, last_first, mode=mode)
    return result.reshape(*x.shape[: x.dim() - rank], *result.shape[2:])


def identity(x: Tensor) -> Tensor:
    """``x``."""
    return x


OPERATORS: dict[str, Operator] = {
    "reshape": Operator(reshape, exact=True),
    "transpose": Operator(transpose, exact=True),
    "expand_dims": Operator(expand_dims, exact=True),
    "squeeze": Operator(squeeze, exact=True),
    "flatten2d": Operator(flatten2d, exact=True),
    "slice_by_index": Operator(slice_by_index, exact=True),
    "slice_by_size": Operator(slice_by_size, exact=True),
    "split": Operator(split, exact=True),
    "concat": Operator(concat, ("values",), exact=True, variadic=True),
    "stack": Operator(stack, ("values",), exact=True, variadic=True),
    "gather": Operator(gather, ("x", "indices"), exact=True, allowed={"batch_dims": (0,)}),
    "tile": Operator(tile, exact=True),
    "reverse": Operator(reverse, exact=True),
    "pad": Operator(pad, allowed={"mode": _PAD_MODES}),
    "identity": Operator(identity, exact=True),
}
