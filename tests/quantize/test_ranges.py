"""Scales and zero points: zero is exact, ranges are covered, and the search never loses against min-max."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quantize.hardswish import hardswish
from quantize.ranges import QParams, RangeMethod, affine, choose, minimal_error_range, squared_error
from quantize.statistics import BINS, Histogram

UINT8, INT8 = (0, 255), (-128, 127)
_MAGNITUDE = st.floats(1e-4, 1e4)
_BOUND = st.one_of(st.just(0.0), _MAGNITUDE, _MAGNITUDE.map(lambda value: -value))


def _samples(kind: str, count: int = 20_000) -> NDArray[np.float32]:
    random = np.random.default_rng(0)
    values = {
        "normal": random.normal(0, 1, count),
        "uniform": random.uniform(-1, 1, count),
        "positive": random.uniform(0, 3, count),
        "negative": -random.uniform(0, 3, count),
        "heavy tails": random.laplace(0, 1, count),
        "one outlier": np.append(random.normal(0, 1, count), 20.0),
        "softmax": random.dirichlet(np.full(196, 0.1), count // 196).ravel(),
        "hardswish": (lambda x: x * np.clip(x / 6 + 0.5, 0, 1))(random.normal(0, 2, count)),
        "far from zero": random.normal(50, 0.1, count),
        "two values": random.choice([-0.375, 4.0], count),
    }[kind]
    return values.astype(np.float32)


KINDS = (
    "normal", "uniform", "positive", "negative", "heavy tails", "one outlier",
    "softmax", "hardswish", "far from zero", "two values",
)  # fmt: skip


def _histogram(values: NDArray[np.float32]) -> Histogram:
    histogram = Histogram()
    histogram.add(torch.from_numpy(values))
    return histogram


def _round_trip(values: NDArray[np.float64], parameters: QParams, low: int, high: int) -> NDArray[np.float64]:
    integers = np.clip(np.rint(values / parameters.scale) + parameters.zero_point, low, high)
    return np.asarray((integers - parameters.zero_point) * parameters.scale, dtype=np.float64)


def _error(values: NDArray[np.float32], parameters: QParams) -> float:
    exact = values.astype(np.float64)
    return float(np.square(_round_trip(exact, parameters, *UINT8) - exact).sum())


@settings(max_examples=200, deadline=None)
@given(first=_BOUND, second=_BOUND, integers=st.sampled_from([UINT8, INT8, (-127, 127)]))
def test_affine_covers_its_range_and_hits_zero(first: float, second: float, integers: tuple[int, int]) -> None:
    low, high = sorted((first, second))
    scale, zero_point = parameters = affine(low, high, *integers)
    assert scale > 0
    assert scale == np.float32(scale)
    assert integers[0] <= zero_point <= integers[1]
    assert _round_trip(np.zeros(1), parameters, *integers)[0] == 0
    bounds = np.array([min(low, 0.0), max(high, 0.0)])
    assert np.abs(_round_trip(bounds, parameters, *integers) - bounds).max() <= scale * (1 + 1e-5)


@settings(max_examples=200, deadline=None)
@given(low=_MAGNITUDE, high=_MAGNITUDE)
def test_int8_and_uint8_differ_by_128_in_the_zero_point_only(low: float, high: float) -> None:
    for bounds in ((-low, high), (0.0, high), (-low, 0.0), (low, low + high), (-low - high, -low)):
        unsigned, signed = affine(*bounds, *UINT8), affine(*bounds, *INT8)
        assert unsigned.scale == signed.scale
        assert unsigned.zero_point - signed.zero_point == 128


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 255.0, QParams(1.0, 0)),
        (-255.0, 0.0, QParams(1.0, 255)),
        (-51.0, 204.0, QParams(1.0, 51)),
        (10.0, 255.0, QParams(1.0, 0)),  # widened to hold zero
        (-255.0, -10.0, QParams(1.0, 255)),
        (0.0, 0.0, QParams(1.0, 0)),  # an all-zero tensor
        (0.0, 1e-43, QParams(1.0, 0)),  # below what a float32 scale can say
        (-1e-43, 0.0, QParams(1.0, 0)),
    ],
)
def test_affine_by_hand(low: float, high: float, expected: QParams) -> None:
    assert affine(low, high, *UINT8) == expected


def test_a_tie_rounds_alike_in_int8_and_uint8() -> None:
    low, high = -1.5, 253.5  # the zero point lies between 1 and 2
    assert affine(low, high, *UINT8).zero_point - affine(low, high, *INT8).zero_point == 128


@settings(max_examples=50, deadline=None)
@given(low=_MAGNITUDE, high=_MAGNITUDE, seed=st.integers(0, 1000))
def test_squared_error_is_that_of_quantizing_each_sample(low: float, high: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    centres = random.uniform(-1.5 * low, 1.5 * high, 200)
    counts = random.integers(1, 9, 200).astype(np.float64)
    lows, highs = np.array([-low, -low / 2, 0.0]), np.array([high, high, high / 2])
    samples = np.repeat(centres, counts.astype(np.int64))
    for found, bottom, top in zip(squared_error(lows, highs, centres, counts), lows, highs, strict=True):
        scale = (top - bottom) / 255
        parameters = QParams(scale, int(np.rint(-bottom / scale)))
        error = np.square(_round_trip(samples, parameters, *UINT8) - samples).sum()
        assert found == pytest.approx(error, rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_search_never_loses_against_minmax(kind: str) -> None:
    values = _samples(kind)
    histogram = _histogram(values)
    centres, counts = histogram.occupied()
    low, high = minimal_error_range(histogram)
    widest = (min(histogram.minimum, 0.0), max(histogram.maximum, 0.0))
    lows, highs = np.array([low, widest[0]]), np.array([high, widest[1]])
    searched, plain = squared_error(lows, highs, centres, counts)
    assert searched <= plain
    # The samples lie up to half a bin beside the bin centres.
    measured = [_error(values, choose(histogram, method, *UINT8)) for method in ("mse", "minmax")]
    assert measured[0] <= measured[1] * (1 + 1e-2) + len(values) * (histogram.limit / BINS) ** 2


@pytest.mark.parametrize("kind", ["uniform", "positive", "negative"])
def test_uniform_data_keeps_its_range(kind: str) -> None:
    values = _samples(kind)
    low, high = minimal_error_range(_histogram(values))
    for found, bound in ((low, min(float(values.min()), 0.0)), (high, max(float(values.max()), 0.0))):
        assert abs(found - bound) <= 0.021 * abs(bound)


@pytest.mark.parametrize("kind", ["heavy tails", "one outlier"])
def test_rare_large_values_are_clipped(kind: str) -> None:
    values = _samples(kind, 1_000_000)
    histogram = _histogram(values)
    low, high = minimal_error_range(histogram)
    assert high - low < 0.8 * (histogram.maximum - histogram.minimum)
    assert _error(values, affine(low, high, *UINT8)) < 0.9 * _error(values, choose(histogram, "minmax", *UINT8))


@pytest.mark.parametrize("kind", KINDS)
def test_a_range_never_crosses_zero(kind: str) -> None:
    histogram = _histogram(_samples(kind))
    low, high = minimal_error_range(histogram)
    assert low <= 0 <= high
    assert (low == 0) == (histogram.minimum >= 0)
    assert (high == 0) == (histogram.maximum <= 0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_range_for_what_hardswish_makes_of_a_tensor_is_better_there(kind: str) -> None:
    """Against every value, not the histogram: float64 rounding of each sample, then Hardswish."""
    values = 3 * _samples(kind)
    histogram, exact = _histogram(values), values.astype(np.float64)
    errors = []
    for behind in (hardswish, None):
        found = choose(histogram, "mse", *UINT8, behind)
        errors.append(np.square(hardswish(_round_trip(exact, found, *UINT8)) - hardswish(exact)).sum())
    assert errors[0] <= errors[1] * 1.001
    if kind in ("normal", "heavy tails"):  # much of them lies below -3
        low, high = minimal_error_range(histogram, hardswish)
        assert errors[0] < 0.7 * errors[1] and -3.6 < low < -2.5 and high > 5


@pytest.mark.parametrize("value", [0.0, 1.0, -0.375, 1e-9, -1e9])
@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_a_constant_tensor_survives(value: float, method: RangeMethod) -> None:
    histogram = _histogram(np.full(100, value, dtype=np.float32))
    parameters = choose(histogram, method, *UINT8)
    found = _round_trip(np.array([value]), parameters, *UINT8)[0]
    assert found == pytest.approx(value, rel=0.06)


def test_all_zeros_give_the_lowest_integer() -> None:
    histogram = _histogram(np.zeros(10, dtype=np.float32))
    for method in ("minmax", "mse"):
        assert choose(histogram, method, *UINT8) == QParams(1.0, 0)
        assert choose(histogram, method, *INT8) == QParams(1.0, -128)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_choose_gives_int8_and_uint8_the_same_grid(kind: str, method: RangeMethod) -> None:
    histogram = _histogram(_samples(kind))
    unsigned, signed = (choose(histogram, method, *bounds) for bounds in (UINT8, INT8))
    assert unsigned.scale == signed.scale
    assert unsigned.zero_point - signed.zero_point == 128


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown range method 'kl'; valid: minmax, mse"):
        choose(_histogram(_samples("normal")), "kl", *UINT8)  # type: ignore[arg-type]
