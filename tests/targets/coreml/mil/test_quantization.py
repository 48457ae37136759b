"""Quantize, dequantize and stored constants against coremltools' own value inference, and their edges by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.coreml.mil.quantization import OPERATORS
from tests.targets.coreml.mil.reference import FEW, SEEDS, SHAPES, check, computed, inferred, numbers

DTYPES = {"int8": np.int8, "uint8": np.uint8}
TESTED = ("quantize", "dequantize", "constexpr_affine_dequantize")


def test_every_operator_of_quantization_is_tested_here() -> None:
    assert sorted(TESTED) == sorted(OPERATORS)


def _parameters(seed: int, shape: tuple[int, ...], dtype: str, channels: bool, zero: bool) -> dict[str, Any]:
    """Scale, zero point and axis: scalars, or vectors along some axis."""
    random = np.random.default_rng(seed)
    axis = int(random.integers(-len(shape), len(shape)))
    size = (shape[axis],) if channels else ()
    found: dict[str, Any] = {"scale": np.float32(random.choice([0.25, 0.5, 0.0123, 1.7], size))}
    if zero:
        limits = np.iinfo(DTYPES[dtype])
        found["zero_point"] = DTYPES[dtype](random.integers(limits.min, limits.max + 1, size))
    return found | ({"axis": np.int32(axis)} if channels else {})


@pytest.mark.parametrize("dtype", DTYPES)
@FEW
@given(seed=SEEDS, shape=SHAPES, channels=st.booleans(), zero=st.booleans())
def test_there_and_back(dtype: str, seed: int, shape: tuple[int, ...], channels: bool, zero: bool) -> None:
    parameters = _parameters(seed, shape, dtype, channels, zero)
    x = numbers(seed, shape, edges=True)
    check("quantize", 0.0, input=x, output_dtype=dtype, **parameters)
    stored = inferred("quantize", input=x, output_dtype=dtype, **parameters)
    check("dequantize", 1e-7, input=stored, **parameters)


def test_ties_go_to_the_even_integer() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5], np.float32)
    assert computed("quantize", input=x, scale=np.float32(1), output_dtype="int8").tolist() == [0, 2, 2, 0, -2, -2]
    shifted = computed("quantize", input=x, scale=np.float32(1), zero_point=np.uint8(7), output_dtype="uint8")
    assert shifted.tolist() == [7, 9, 9, 7, 5, 5]  # rounded before the zero point is added


@pytest.mark.parametrize(("dtype", "low", "high"), [("int8", -128, 127), ("uint8", 0, 255)])
def test_what_is_beyond_the_range_saturates(dtype: str, low: int, high: int) -> None:
    x = np.array([-np.inf, -1e30, -3e2, 3e2, 1e30, np.inf], np.float32)
    found = computed("quantize", input=x, scale=np.float32(1), output_dtype=dtype)
    assert found.tolist() == [low] * 3 + [high] * 3


def test_nan_is_not_hidden_by_an_integer() -> None:
    found = computed("quantize", input=np.array([np.nan, 1], np.float32), scale=np.float32(1), output_dtype="uint8")
    assert np.isnan(found[0]) and found[1] == 1


def test_a_vector_of_scales_needs_an_axis() -> None:
    with pytest.raises(ValueError, match="needs an axis"):
        computed("dequantize", input=np.zeros((2, 3), np.int8), scale=np.ones(3, np.float32))


@pytest.mark.parametrize("dtype", DTYPES)
@FEW
@given(seed=SEEDS, shape=SHAPES, channels=st.booleans())
def test_stored_weights(dtype: str, seed: int, shape: tuple[int, ...], channels: bool) -> None:
    limits = np.iinfo(DTYPES[dtype])
    data = np.random.default_rng(seed).integers(limits.min, limits.max + 1, shape).astype(DTYPES[dtype])
    parameters = {"axis": np.int32(0)} | _parameters(seed, shape, dtype, channels, zero=True)
    check("constexpr_affine_dequantize", 1e-7, quantized_data=data, **parameters)
