"""SQNR by hand, and where it has no finite value."""

from __future__ import annotations

import math

import numpy as np
import pytest

from levit_edge.metrics.sqnr import decibels, finite_or_none, sqnr_db


def test_sqnr_is_ten_times_the_logarithm_of_signal_to_noise() -> None:
    assert sqnr_db(np.array([3.0, 4.0]), np.array([3.0, 4.5])) == pytest.approx(20.0)
    assert decibels(100, 1) == 20


def test_sqnr_is_summed_in_float64() -> None:
    reference = np.full(2, 1e6, np.float32)
    assert sqnr_db(reference, reference + np.float32(0.0625)) == pytest.approx(20 * math.log10(1e6 / 0.0625), abs=1e-9)
    halves = np.full(1 << 14, 2.0, np.float16)  # the sum of their squares, 65536, is more than float16 holds
    assert sqnr_db(halves, halves / np.float16(2)) == pytest.approx(20 * math.log10(2))


@pytest.mark.parametrize(
    ("reference", "values", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.0], math.inf),
        ([0.0, 0.0], [0.0, 0.0], math.inf),
        ([0.0, 0.0], [1.0, 2.0], -math.inf),
        ([1.0, 2.0], [math.nan, 2.0], -math.inf),
        ([1.0, 2.0], [math.inf, 2.0], -math.inf),
    ],
)
def test_sqnr_without_a_finite_value(reference: list[float], values: list[float], expected: float) -> None:
    found = sqnr_db(np.array(reference), np.array(values))
    assert found == expected and finite_or_none(found) is None


def test_a_finite_value_stays() -> None:
    assert finite_or_none(-3.5) == -3.5
