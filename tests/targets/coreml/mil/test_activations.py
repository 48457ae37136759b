"""Activations against coremltools' own value inference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.coreml.mil.activations import OPERATORS
from tests.targets.coreml.mil.reference import FEW, SEEDS, SHAPES, check, close, computed, numbers

TESTED = ("relu", "tanh", "thresholded_relu", "sigmoid_hard", "gelu", "softmax")
PARAMETERS = st.floats(-4, 4, width=16)


def test_every_activation_is_tested_here() -> None:
    assert sorted(TESTED) == sorted(OPERATORS)


@pytest.mark.parametrize("kind", ["relu", "tanh"])
@FEW
@given(seed=SEEDS, shape=SHAPES)
def test_without_parameters(kind: str, seed: int, shape: tuple[int, ...]) -> None:
    check(kind, 2e-6, x=numbers(seed, shape, edges=kind == "relu"))


@FEW
@given(seed=SEEDS, shape=SHAPES, alpha=PARAMETERS)
def test_thresholded_relu(seed: int, shape: tuple[int, ...], alpha: float) -> None:
    check("thresholded_relu", 2e-6, x=numbers(seed, shape, edges=True), alpha=np.float32(alpha))


@FEW
@given(seed=SEEDS, shape=SHAPES, alpha=PARAMETERS, beta=st.floats(0, 4, width=16))
def test_sigmoid_hard(seed: int, shape: tuple[int, ...], alpha: float, beta: float) -> None:
    check("sigmoid_hard", 2e-6, x=numbers(seed, shape), alpha=np.float32(alpha), beta=np.float32(beta))


@pytest.mark.parametrize("alpha", [-3.0, 0.0, 0.1, 3.0])
def test_thresholded_relu_keeps_what_equals_its_threshold_and_nan(alpha: float) -> None:
    at = np.float32(alpha)
    x = np.array([np.nextafter(at, np.float32(-9)), at, np.nextafter(at, np.float32(9)), -np.inf, np.nan], np.float32)
    close(computed("thresholded_relu", x=x, alpha=at), np.array([0, x[1], x[2], 0, np.nan]), 0.0)


@pytest.mark.parametrize("mode", ["EXACT", "TANH_APPROXIMATION"])
@FEW
@given(seed=SEEDS, shape=SHAPES)
def test_gelu(mode: str, seed: int, shape: tuple[int, ...]) -> None:
    check("gelu", 3e-6, x=numbers(seed, shape), mode=mode)
    if mode == "EXACT":
        check("gelu", 3e-6, x=numbers(seed, shape))


@FEW
@given(seed=SEEDS, shape=SHAPES, data=st.data())
def test_softmax_along_any_axis(seed: int, shape: tuple[int, ...], data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = numbers(seed, shape) * np.float32(30)
    check("softmax", 3e-6, x=x, axis=np.int32(axis))
    check("softmax", 3e-6, x=x)
