"""Reductions over axes. Source: coremltools 9, MIL operator reference, ``reduction``. Without axes: over all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from targets.coreml.mil.operator import Operator


def _reduction(function: Callable[[Tensor, list[int], bool], Tensor], exact: bool = False) -> Operator:
    def compute(x: Tensor, axes: Sequence[int] | None = None, keep_dims: bool = False) -> Tensor:
        return function(x, list(range(x.dim()) if axes is None else axes), keep_dims)

    return Operator(compute, exact=exact)


def _sum(x: Tensor, axes: list[int], keep_dims: bool) -> Tensor:
    return torch.sum(x, dim=axes, keepdim=keep_dims, dtype=x.dtype)


OPERATORS: dict[str, Operator] = {
    "reduce_mean": _reduction(lambda x, axes, keep: torch.mean(x, dim=axes, keepdim=keep)),
    "reduce_sum": _reduction(_sum),
    "reduce_max": _reduction(lambda x, axes, keep: torch.amax(x, dim=axes, keepdim=keep), exact=True),
    "reduce_min": _reduction(lambda x, axes, keep: torch.amin(x, dim=axes, keepdim=keep), exact=True),
    "reduce_sum_square": _reduction(lambda x, axes, keep: _sum(torch.square(x), axes, keep)),
    "reduce_l1_norm": _reduction(lambda x, axes, keep: _sum(torch.abs(x), axes, keep)),
    "reduce_l2_norm": _reduction(lambda x, axes, keep: torch.sqrt(_sum(torch.square(x), axes, keep))),
    "reduce_log_sum_exp": _reduction(lambda x, axes, keep: torch.logsumexp(x, dim=axes, keepdim=keep)),
}
