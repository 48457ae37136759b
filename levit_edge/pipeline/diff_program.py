"""The scales, constants and layers in which two quantized programs differ, compared by their values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from levit_edge.report.difference import ConstantChange, ScaleChange
from quantize.names import Key
from targets.program import replay
from targets.program.parameters import Activation, Constant, Parameters, parameters

ACCUMULATOR = "int32"  # a bias whose integers follow the scales of input and weight
FLOAT32_ROUNDING = 2.0**-22  # relative: each integer came from one division and one product in float32


@dataclass(frozen=True)
class ProgramDifference:
    """The largest changes first. Layers that one side lacks are named, and nothing of them is compared."""

    scales: tuple[ScaleChange, ...]
    constants: tuple[ConstantChange, ...]
    layers_before: tuple[str, ...]
    layers_after: tuple[str, ...]


def compare_programs(before: Path, after: Path) -> ProgramDifference:
    """What differs between two saved programs; InputError for a file that is none.

    One program is in memory at a time, and of both the constants.
    """
    return compare_parameters(parameters(replay.load(before)), parameters(replay.load(after)))


def compare_parameters(before: Parameters, after: Parameters) -> ProgramDifference:
    """What differs between the parameters of two programs."""
    gone, new = set(before.layers) - set(after.layers), set(after.layers) - set(before.layers)

    def shared(keys: dict[Key, object]) -> list[Key]:
        return [key for key in keys if key[0] not in gone | new]

    activations = shared({**before.activations, **after.activations})
    scales = [_scale_change(key, before.activations.get(key), after.activations.get(key)) for key in activations]
    constants = [
        row
        for key in shared({**before.constants, **after.constants})
        for row in _constant_change(key, before.constants.get(key), after.constants.get(key))
    ]
    return ProgramDifference(
        scales=tuple(sorted((row for row in scales if _is_changed(row)), key=_scale_order)),
        constants=tuple(sorted(constants, key=_constant_order)),
        layers_before=tuple(name for name in before.layers if name in gone),
        layers_after=tuple(name for name in after.layers if name in new),
    )


def _scale_change(key: Key, before: Activation | None, after: Activation | None) -> ScaleChange:
    return ScaleChange(
        layer=key[0],
        tensor=key[1],
        scale_before=None if before is None else before.scale,
        scale_after=None if after is None else after.scale,
        zero_point_before=None if before is None else before.zero_point,
        zero_point_after=None if after is None else after.zero_point,
        ratio=None if before is None or after is None else _ratio(before.scale, after.scale),
    )


def _ratio(before: float, after: float) -> float | None:
    """after / before; None where a program states a scale that is not positive, which no build does."""
    return after / before if min(before, after) > 0 else None


def _is_changed(row: ScaleChange) -> bool:
    return (row.scale_before, row.zero_point_before) != (row.scale_after, row.zero_point_after)


def _scale_order(row: ScaleChange) -> tuple[float, float]:
    """What is stored on one side only comes first, then the largest ratio, then the largest shift."""
    if row.ratio is None or row.zero_point_before is None or row.zero_point_after is None:
        return -math.inf, 0
    return -abs(math.log(row.ratio)), -abs(row.zero_point_after - row.zero_point_before)


def _constant_change(key: Key, before: Constant | None, after: Constant | None) -> Iterator[ConstantChange]:
    old, new = None if before is None else before.form, None if after is None else after.form
    share, ratio = None, None
    if before is not None and after is not None and old == new:
        share, ratio = _differing_share(before, after), _scale_ratio(before, after)
        if share == 0 and (before.dtype == ACCUMULATOR or _is_same(before.scale, after.scale)):
            return
    yield ConstantChange(layer=key[0], constant=key[1], before=old, after=new, differing_share=share, scale_ratio=ratio)


def _is_same(before: NDArray[np.float64] | None, after: NDArray[np.float64] | None) -> bool:
    return before is after if before is None or after is None else np.array_equal(before, after)


def _differing_share(before: Constant, after: Constant) -> float:
    """The share of the stored values that differ, 0 to 1; of accumulators, of those more than a rounding apart."""
    if before.dtype == ACCUMULATOR and before.scale is not None and after.scale is not None:
        old, new = before.values * before.steps, after.values * after.steps
        rounding = (before.steps + after.steps) / 2 + FLOAT32_ROUNDING * np.abs(old)
        return float((np.abs(old - new) > rounding).mean())
    equal = before.values == after.values
    if before.values.dtype.kind == "f":
        equal |= np.isnan(before.values) & np.isnan(after.values)
    return float((~equal).mean())


def _scale_ratio(before: Constant, after: Constant) -> float | None:
    """after / before of the channel whose scale changed most; None where scales are missing or not positive."""
    if before.scale is None or after.scale is None or before.scale.shape != after.scale.shape:
        return None
    if _ratio(before.scale.min(), after.scale.min()) is None:
        return None
    ratios: NDArray[np.float64] = after.scale / before.scale
    return float(ratios[np.argmax(np.abs(np.log(ratios)))])


def _constant_order(row: ConstantChange) -> tuple[float, float]:
    """Another type or shape comes first, then the largest share, then the largest ratio of scales."""
    share = math.inf if row.differing_share is None else row.differing_share
    return -share, -abs(math.log(row.scale_ratio or 1))
