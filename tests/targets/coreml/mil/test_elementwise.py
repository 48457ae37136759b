"""Elementwise operators against coremltools' own value inference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.coreml.mil.elementwise import OPERATORS
from tests.targets.coreml.mil.reference import FEW, SEEDS, SHAPES, check, close, computed, numbers

ARITHMETIC = ("add", "sub", "mul", "maximum", "minimum")
COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
QUOTIENTS = ("real_div", "floor_div", "mod")
LOGIC = ("logical_and", "logical_or", "logical_xor")
UNARY = ("abs", "ceil", "floor", "round", "sign", "cos", "sin", "tanh", "erf", "exp", "exp2", "square")
POSITIVE = ("sqrt", "log", "rsqrt", "inverse")
OTHERS = ("pow", "logical_not", "clip", "threshold", "cast", "select")


def test_every_elementwise_operator_is_tested_here() -> None:
    tested = (*ARITHMETIC, *COMPARISONS, *QUOTIENTS, *LOGIC, *UNARY, *POSITIVE, *OTHERS)
    assert sorted(tested) == sorted(OPERATORS)


@pytest.mark.parametrize("kind", [*ARITHMETIC, *COMPARISONS])
@FEW
@given(seed=SEEDS, shape=SHAPES, broadcast=st.booleans())
def test_floats_broadcast(kind: str, seed: int, shape: tuple[int, ...], broadcast: bool) -> None:
    x, y = numbers(seed, shape, edges=True), numbers(seed + 1, shape[-1:] if broadcast else shape)
    y = np.where(np.random.default_rng(seed).random(y.shape) < 0.3, np.float32(0.5), y)  # some are equal
    check(kind, x=x, y=y)


@pytest.mark.parametrize("kind", [*ARITHMETIC, *COMPARISONS, "floor_div", "mod"])
@FEW
@given(seed=SEEDS, shape=SHAPES)
def test_integers_are_exact(kind: str, seed: int, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(seed)
    x = random.integers(-(2**28), 2**28, shape).astype(np.int32)
    y = random.choice(np.array([-7, -2, 1, 3, 5], np.int32), shape)
    check(kind, 0.0, x=x, y=y)
    assert computed(kind, x=x, y=y).dtype in (np.int32, np.bool_)


@pytest.mark.parametrize("kind", QUOTIENTS)
@FEW
@given(seed=SEEDS, shape=SHAPES)
def test_quotients_of_floats(kind: str, seed: int, shape: tuple[int, ...]) -> None:
    y = numbers(seed + 1, shape)
    check(kind, x=numbers(seed, shape), y=np.where(np.abs(y) < 0.1, np.float32(-2.5), y))


def test_the_quotient_of_integers_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="quotient of integers"):
        computed("real_div", x=np.array([7], np.int32), y=np.array([2], np.int32))


@pytest.mark.parametrize("kind", LOGIC)
@FEW
@given(seed=SEEDS, shape=SHAPES)
def test_logic(kind: str, seed: int, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(seed)
    x, y = random.random(shape) < 0.5, random.random(shape) < 0.5
    check(kind, 0.0, x=x, y=y)
    check("logical_not", 0.0, x=x)
    check("select", 0.0, cond=x, a=numbers(seed, shape), b=numbers(seed + 1, shape))


@pytest.mark.parametrize("kind", UNARY)
@FEW
@given(seed=SEEDS, shape=SHAPES)
def test_functions(kind: str, seed: int, shape: tuple[int, ...]) -> None:
    edges = kind in ("abs", "ceil", "floor", "round", "sign", "square")
    check(kind, 2e-6, x=numbers(seed, shape, edges))


@pytest.mark.parametrize("kind", POSITIVE)
@FEW
@given(seed=SEEDS, shape=SHAPES)
def test_functions_of_positive_numbers(kind: str, seed: int, shape: tuple[int, ...]) -> None:
    x = np.abs(numbers(seed, shape)) + np.float32(1e-3)
    check(kind, 2e-6, x=x)
    if kind != "sqrt":
        check(kind, 2e-6, x=x, epsilon=np.float32(0.25))


@FEW
@given(seed=SEEDS, shape=SHAPES, low=st.floats(-4, 0, width=16), high=st.floats(0.5, 4, width=16))
def test_bounds(seed: int, shape: tuple[int, ...], low: float, high: float) -> None:
    x = numbers(seed, shape, edges=True)
    check("clip", 0.0, x=x, alpha=np.float32(low), beta=np.float32(high))
    check("threshold", 0.0, x=x, alpha=np.float32(low))
    check("pow", 2e-6, x=np.abs(numbers(seed, shape)), y=numbers(seed + 1, shape))


@pytest.mark.parametrize("dtype", ["int32", "int8", "uint8", "bool", "fp32", "fp16"])
@FEW
@given(seed=SEEDS, shape=SHAPES)
def test_casts_lose_the_fraction(dtype: str, seed: int, shape: tuple[int, ...]) -> None:
    x = np.abs(numbers(seed, shape)) if dtype == "uint8" else numbers(seed, shape)
    check("cast", 1e-3 if dtype == "fp16" else 0.0, x=x, dtype=dtype)
    whole = np.trunc(x).astype(np.int32)
    close(computed("cast", x=whole, dtype="fp32"), whole.astype(np.float32), 0.0)
    close(computed("cast", x=whole > 0, dtype="int32"), (whole > 0).astype(np.int32), 0.0)


def test_a_cast_beyond_the_range_saturates() -> None:
    x = np.array([-1e30, -129, 300, 3e9], np.float32)
    assert computed("cast", x=x, dtype="int8").tolist() == [-128, -128, 127, 127]
    assert computed("cast", x=x, dtype="uint8").tolist() == [0, 0, 255, 255]
    assert computed("cast", x=x, dtype="int32").tolist() == [-(2**31), -129, 300, 2**31 - 1]
