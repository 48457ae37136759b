"""From a histogram to a scale and a zero point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from quantize.statistics import Histogram

RangeMethod = Literal["minmax", "mse"]
RANGE_METHODS = get_args(RangeMethod)
ActivationError = Literal["tensor", "behind"]
ACTIVATION_ERRORS = get_args(ActivationError)
Operator = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_FRACTIONS = np.concatenate([np.linspace(0.3, 1.0, 71), [1.02, 1.05]])
# Behind an operator that is flat on one side, the best range may end anywhere: Hardswish gives 0 for all below -3.
_FRACTIONS_BEHIND = np.concatenate([np.linspace(0.02, 1.0, 99), [1.02, 1.05]])
_SEARCH_BINS = 2048
_ROUNDS = 3


class QParams(NamedTuple):
    """Affine quantization: real = scale * (integer - zero_point)."""

    scale: float
    zero_point: int


def affine(low: float, high: float, quant_min: int, quant_max: int) -> QParams:
    """Parameters that cover [low, high] widened to hold 0, with 0 exactly representable (Jacob et al. 2018, 2.1)."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32((high - low) / (quant_max - quant_min)))
    if scale < np.finfo(np.float32).tiny:
        return QParams(1.0, quant_min if low == 0 else 0)
    zero_point = quant_min + round(-low / scale)  # rounded first: the same step in int8 and uint8
    return QParams(scale, min(max(zero_point, quant_min), quant_max))


def squared_error(
    lows: NDArray[np.float64],
    highs: NDArray[np.float64],
    centres: NDArray[np.float64],
    counts: NDArray[np.float64],
    behind: Operator | None = None,
) -> NDArray[np.float64]:
    """Summed squared rounding and clipping error of 8-bit affine quantization for each candidate range: [k] -> [k].

    With ``behind``, an elementwise operator, it is the error of what that makes of the values.
    """
    scale = (highs - lows)[:, None] / 255  # [k, 1]
    zero = np.rint(-lows[:, None] / scale)
    quantized = np.clip(np.rint(centres[None, :] / scale) + zero, 0, 255)  # [k, bins]
    found, exact = scale * (quantized - zero), centres
    if behind is not None:
        found, exact = behind(found), behind(exact)
    errors: NDArray[np.float64] = np.square(found - exact[None, :]) @ counts
    return errors


def _coarse(histogram: Histogram) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At most _SEARCH_BINS (centre of mass, count) pairs that stand for the histogram."""
    centres, counts = histogram.occupied()
    edges = np.linspace(histogram.minimum, histogram.maximum, _SEARCH_BINS + 1)
    index = np.clip(np.searchsorted(edges, centres, side="right") - 1, 0, _SEARCH_BINS - 1)
    mass = np.bincount(index, counts, _SEARCH_BINS).astype(np.float64)
    moment = np.bincount(index, counts * centres, _SEARCH_BINS).astype(np.float64)
    used = mass > 0
    return moment[used] / mass[used], mass[used]


def minimal_error_range(histogram: Histogram, behind: Operator | None = None) -> tuple[float, float]:
    """The clipping range [low, high] with the least squared error, by coordinate descent over shrunken ranges.

    The search looks at a coarser histogram; its result is taken when it is better on ``histogram`` itself. With
    ``behind``, the error is that of what this elementwise operator makes of the values.
    """
    low, high = min(histogram.minimum, 0.0), max(histogram.maximum, 0.0)
    if low == high:
        return low, high
    centres, counts = _coarse(histogram)
    fractions = _FRACTIONS if behind is None else _FRACTIONS_BEHIND
    lows, highs = low * fractions, high * fractions
    best_low, best_high = low, high
    for _ in range(_ROUNDS):
        if high > 0:
            best_high = highs[np.argmin(squared_error(np.full_like(highs, best_low), highs, centres, counts, behind))]
        if low < 0:
            best_low = lows[np.argmin(squared_error(lows, np.full_like(lows, best_high), centres, counts, behind))]
    lows, highs = np.array([low, best_low]), np.array([high, best_high])
    kept = np.argmin(squared_error(lows, highs, *histogram.occupied(), behind))
    return float(lows[kept]), float(highs[kept])


def choose(
    histogram: Histogram, method: RangeMethod, quant_min: int, quant_max: int, behind: Operator | None = None
) -> QParams:
    """Scale and zero point for ``histogram``; ``mse`` looks at the error ``behind`` an operator, if one is given.

    Raises ValueError on an unknown method.
    """
    if method == "minmax":
        return affine(histogram.minimum, histogram.maximum, quant_min, quant_max)
    if method == "mse":
        return affine(*minimal_error_range(histogram, behind), quant_min, quant_max)
    raise ValueError(f"unknown range method {method!r}; valid: minmax, mse")
