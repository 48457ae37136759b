"""Signal to quantization noise ratio (SQNR) in decibels: ``10 log10(sum ref^2 / sum (ref - x)^2)``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def sqnr_db(reference: NDArray[Any], values: NDArray[Any]) -> float:
    """SQNR of ``values`` against ``reference`` (same shape), summed over all elements in float64.

    Infinite when the two are equal, minus infinity when the noise is not finite or the reference is all zeros.
    """
    exact = reference.astype(np.float64)
    return decibels(float(np.square(exact).sum()), float(np.square(exact - values.astype(np.float64)).sum()))


def decibels(signal: float, noise: float) -> float:
    """SQNR of two sums of squares, infinite in the cases that :func:`sqnr_db` names."""
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 and math.isfinite(noise) else -math.inf


def finite_or_none(value_db: float) -> float | None:
    """``value_db`` as a report stores it: None for plus and minus infinity."""
    return value_db if math.isfinite(value_db) else None
