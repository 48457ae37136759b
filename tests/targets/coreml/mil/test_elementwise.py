"""Elementwise operators against coremltools' own value inference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.coreml.mil.elementwise import OPERATORS
from tests.targets.coreml.mil.reference import FEW, SEEDS, SHAPES, check, close, computed, numbers

ARITHMETIC = ("add", "sub", "mul")
OTHERS = ("real_div", "sqrt", "square", "cast")


def test_every_elementwise_operator_is_tested_here() -> None:
    assert sorted((*ARITHMETIC, *OTHERS)) == sorted(OPERATORS)


@pytest.mark.parametrize("kind", ARITHMETIC)
@FEW
@given(seed=SEEDS, shape=SHAPES, broadcast=st.booleans())
def test_floats_broadcast(kind: str, seed: int, shape: tuple[int, ...], broadcast: bool) -> None:
    x, y = numbers(seed, shape, edges=True), numbers(seed + 1, shape[-1:] if broadcast else shape)
    check(kind, x=x, y=y)


@pytest.mark.parametrize("kind", ARITHMETIC)
@FEW
@given(seed=SEEDS, shape=SHAPES)
def test_integers_are_exact(kind: str, seed: int, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(seed)
    x = random.integers(-(2**28), 2**28, shape).astype(np.int32)
    y = random.choice(np.array([-7, -2, 1, 3, 5], np.int32), shape)
    check(kind, 0.0, x=x, y=y)
    assert computed(kind, x=x, y=y).dtype == np.int32


@FEW
@given(seed=SEEDS, shape=SHAPES)
def test_quotients_of_floats(seed: int, shape: tuple[int, ...]) -> None:
    y = numbers(seed + 1, shape)
    check("real_div", x=numbers(seed, shape), y=np.where(np.abs(y) < 0.1, np.float32(-2.5), y))


def test_the_quotient_of_integers_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="quotient of integers"):
        computed("real_div", x=np.array([7], np.int32), y=np.array([2], np.int32))


@FEW
@given(seed=SEEDS, shape=SHAPES)
def test_roots_and_squares(seed: int, shape: tuple[int, ...]) -> None:
    check("sqrt", 2e-6, x=np.abs(numbers(seed, shape)) + np.float32(1e-3))
    check("square", 2e-6, x=numbers(seed, shape, edges=True))


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
