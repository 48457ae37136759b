"""Reductions against coremltools' own value inference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.coreml.mil.reductions import OPERATORS
from tests.targets.coreml.mil.reference import FEW, SEEDS, SHAPES, check, computed, numbers


@pytest.mark.parametrize("kind", OPERATORS)
@FEW
@given(seed=SEEDS, shape=SHAPES, keep=st.booleans(), data=st.data())
def test_over_any_axes(kind: str, seed: int, shape: tuple[int, ...], keep: bool, data: st.DataObject) -> None:
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, max_size=len(shape), unique=True))
    signed = [axis - len(shape) if data.draw(st.booleans()) else axis for axis in axes]
    arguments: dict[str, Any] = {"x": numbers(seed, shape), "axes": np.array(signed, np.int32)}
    if keep:
        arguments["keep_dims"] = True
    check(kind, 5e-6, **arguments)


@pytest.mark.parametrize("kind", [kind for kind in OPERATORS if kind != "reduce_log_sum_exp"])
def test_over_all_axes_by_default(kind: str) -> None:
    check(kind, 5e-6, x=numbers(3, (2, 3, 4)))


@pytest.mark.parametrize("kind", ["reduce_sum", "reduce_max", "reduce_min"])
def test_of_integers(kind: str) -> None:
    x = np.random.default_rng(0).integers(-(2**26), 2**26, (3, 5)).astype(np.int32)
    check(kind, 0.0, x=x, axes=np.array([1], np.int32))
    assert computed(kind, x=x, axes=[1]).dtype == np.int32
