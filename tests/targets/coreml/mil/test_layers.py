"""Layers against coremltools' own value inference, or a float64 formula where it has none."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.coreml.mil.layers import OPERATORS
from tests.targets.coreml.mil.reference import FEW, SEEDS, Array, check, close, computed, numbers

TESTED = ("linear", "matmul", "conv", "avg_pool", "max_pool", "batch_norm", "layer_norm")


def test_every_layer_is_tested_here() -> None:
    assert sorted(TESTED) == sorted(OPERATORS)


def _padded(x: Array, pad: list[int], value: float = 0.0) -> Array:
    """[N, C, *D] with (before, after) of each spatial axis."""
    around = [(0, 0), (0, 0), *zip(pad[0::2], pad[1::2], strict=True)]
    return np.pad(x.astype(np.float64), around, constant_values=value)


def _windows(x: Array, kernel: list[int], strides: list[int], dilations: list[int]) -> Array:
    """[N, C, *D] -> [N, C, *D', *K], every element of every window picked one by one."""
    sizes = [
        (size - (k - 1) * d - 1) // s + 1 for size, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True)
    ]
    found = np.empty((*x.shape[:2], *sizes, *kernel))
    for place in product(*(range(size) for size in sizes)):
        for tap in product(*(range(k) for k in kernel)):
            at = tuple(p * s + t * d for p, s, t, d in zip(place, strides, tap, dilations, strict=True))
            found[(slice(None), slice(None), *place, *tap)] = x[(slice(None), slice(None), *at)]
    return found


def _convolution(
    x: Array, weight: Array, bias: Array, pad: list[int], strides: Any, dilations: Any, groups: int
) -> Array:
    spatial = weight.ndim - 2
    windows = _windows(_padded(x, pad), list(weight.shape[2:]), strides, dilations)
    wide, deep = weight.shape[0] // groups, x.shape[1] // groups
    parts = []
    for group in range(groups):
        taps = tuple(range(1, 2)) + tuple(range(2 + spatial, 2 + 2 * spatial))
        part = windows[:, group * deep : (group + 1) * deep]
        kernels = weight[group * wide : (group + 1) * wide].astype(np.float64)
        parts.append(np.moveaxis(np.tensordot(part, kernels, (taps, tuple(range(1, spatial + 2)))), -1, 1))
    return np.concatenate(parts, axis=1) + bias.reshape(1, -1, *[1] * spatial)


@pytest.mark.parametrize("spatial", [1, 2, 3])
@FEW
@given(seed=SEEDS, groups=st.sampled_from([1, 2]), data=st.data())
def test_conv(spatial: int, seed: int, groups: int, data: st.DataObject) -> None:
    def sizes(low: int, high: int, count: int = spatial) -> list[int]:
        return data.draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    x = numbers(seed, (2, 4, *sizes(5, 6)))
    weight, bias = numbers(seed + 1, (6, 4 // groups, *sizes(1, 3))), numbers(seed + 2, (6,))
    strides, dilations, pad = sizes(1, 2), sizes(1, 2), sizes(0, 2, 2 * spatial)
    found = computed(
        "conv",
        x=x,
        weight=weight,
        bias=bias,
        pad_type="custom",
        pad=pad,
        strides=strides,
        dilations=dilations,
        groups=groups,
    )
    close(found, _convolution(x, weight, bias, pad, strides, dilations, groups), 1e-4)


def test_conv_by_default_has_stride_one_and_neither_padding_nor_bias() -> None:
    x, weight = numbers(0, (1, 2, 5, 5)), numbers(1, (3, 2, 3, 3))
    expected = _convolution(x, weight, np.zeros(3), [0] * 4, [1, 1], [1, 1], 1)
    close(computed("conv", x=x, weight=weight), expected, 1e-4)
    close(computed("conv", x=x, weight=weight, pad_type="valid", pad=[1, 1, 1, 1]), expected, 1e-4)  # ignored


@pytest.mark.parametrize("pad_type", ["same", "same_lower"])
def test_same_is_known_where_both_its_descriptions_agree(pad_type: str) -> None:
    x, weight = numbers(0, (1, 2, 5, 6)), numbers(1, (3, 2, 3, 5))
    expected = _convolution(x, weight, np.zeros(3), [1, 1, 2, 2], [1, 1], [1, 1], 1)
    close(computed("conv", x=x, weight=weight, pad_type=pad_type), expected, 1e-4)
    with pytest.raises(ValueError, match=f"pad_type {pad_type} is known for stride 1 and odd kernels only"):
        computed("conv", x=x, weight=weight, pad_type=pad_type, strides=[2, 2])
    with pytest.raises(ValueError, match="odd kernels only"):
        computed("conv", x=x, weight=numbers(1, (3, 2, 2, 3)), pad_type=pad_type)


def test_custom_padding_needs_its_numbers() -> None:
    with pytest.raises(ValueError, match="two numbers for each spatial axis"):
        computed("conv", x=numbers(0, (1, 2, 5, 5)), weight=numbers(1, (3, 2, 3, 3)), pad_type="custom", pad=[1, 1])


@FEW
@given(seed=SEEDS, rank=st.integers(1, 3), with_bias=st.booleans())
def test_linear(seed: int, rank: int, with_bias: bool) -> None:
    x, weight = numbers(seed, (2, 3, 5)[3 - rank :]), numbers(seed + 1, (4, 5))
    bias = {"bias": numbers(seed + 2, (4,))} if with_bias else {}
    check("linear", 1e-5, x=x, weight=weight, **bias)


@pytest.mark.parametrize(
    ("x", "y"), [((3, 4), (4, 2)), ((2, 3, 4), (4, 2)), ((10, 3, 4), (5, 10, 4, 2)), ((1, 3, 4), (6, 4, 2))]
)
@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
def test_matmul(x: tuple[int, ...], y: tuple[int, ...], transposed: tuple[bool, bool]) -> None:
    left, right = (
        np.swapaxes(numbers(seed, shape), -1, -2) if flip else numbers(seed, shape)
        for seed, (shape, flip) in enumerate(zip((x, y), transposed, strict=True))
    )
    arguments = {"transpose_x": transposed[0], "transpose_y": transposed[1]} if any(transposed) else {}
    check("matmul", 1e-5, x=np.ascontiguousarray(left), y=np.ascontiguousarray(right), **arguments)


@pytest.mark.parametrize("pad", [[0, 0, 0, 0], [1, 0, 1, 1], [1, 1, 1, 1]])
def test_pooling(pad: list[int]) -> None:
    x, kernel, strides = numbers(0, (2, 3, 6, 7)), [3, 2], [2, 1]
    arguments: dict[str, Any] = {"kernel_sizes": kernel, "strides": strides, "pad_type": "custom", "pad": pad}
    sums = _windows(_padded(x, pad), kernel, strides, [1, 1]).sum((-1, -2))
    counts = _windows(_padded(np.ones_like(x), pad), kernel, strides, [1, 1]).sum((-1, -2))
    close(computed("avg_pool", x=x, **arguments), sums / 6, 1e-5)
    close(computed("avg_pool", x=x, exclude_padding_from_average=True, **arguments), sums / counts, 1e-5)
    maxima = _windows(_padded(x, pad, -np.inf), kernel, strides, [1, 1]).max((-1, -2))
    close(computed("max_pool", x=x, **arguments), maxima, 0.0)


@pytest.mark.parametrize("affine", [False, True])
def test_batch_norm(affine: bool) -> None:
    x, mean, variance = numbers(0, (2, 4, 3, 3)), numbers(1, (4,)), np.abs(numbers(2, (4,))) + 0.1
    gamma, beta = (numbers(3, (4,)), numbers(4, (4,))) if affine else (np.ones(4), np.zeros(4))
    along = (1, 4, 1, 1)
    normal = (x - mean.reshape(along)) / np.sqrt(variance.reshape(along).astype(np.float64) + 0.01)
    extra = {"gamma": gamma, "beta": beta} if affine else {}
    found = computed("batch_norm", x=x, mean=mean, variance=variance, epsilon=0.01, **extra)
    close(found, normal * gamma.reshape(along) + beta.reshape(along), 1e-5)


@pytest.mark.parametrize("axes", [[-1], [1, 2], [2, 0]])
def test_layer_norm(axes: list[int]) -> None:
    x = numbers(0, (2, 3, 4))
    shape = tuple(size for axis, size in enumerate(x.shape) if axis in [a % 3 for a in axes])
    arguments = {"x": x, "axes": np.array(axes, np.int32), "epsilon": np.float32(0.01)}
    check("layer_norm", 1e-5, **arguments)
    check("layer_norm", 1e-5, gamma=numbers(1, shape), beta=numbers(2, shape), **arguments)
