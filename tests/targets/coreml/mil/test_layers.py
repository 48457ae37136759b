"""Layers against coremltools' own value inference, or a float64 formula where it has none."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from targets.coreml.mil.layers import OPERATORS
from tests.targets.coreml.mil.reference import FEW, SEEDS, SHAPES, Array, check, close, computed, numbers

TESTED = ("linear", "matmul", "conv", "avg_pool", "max_pool", "batch_norm", "layer_norm", "reduce_mean")


def test_every_layer_is_tested_here() -> None:
    assert sorted(TESTED) == sorted(OPERATORS)


def _padded(x: Array, pad: list[int], value: float = 0.0) -> Array:
    """[N, C, H, W] with (before, after) of the height and of the width."""
    around = [(0, 0), (0, 0), (pad[0], pad[1]), (pad[2], pad[3])]
    return np.pad(x.astype(np.float64), around, constant_values=value)


def _windows(x: Array, kernel: list[int], strides: list[int], dilations: list[int]) -> Array:
    """[N, C, H, W] -> [N, C, H', W', K_h, K_w], every element of every window picked one by one."""
    sizes = [
        (size - (k - 1) * d - 1) // s + 1 for size, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True)
    ]
    found = np.empty((*x.shape[:2], *sizes, *kernel))
    for row, column, down, right in product(range(sizes[0]), range(sizes[1]), range(kernel[0]), range(kernel[1])):
        at = row * strides[0] + down * dilations[0], column * strides[1] + right * dilations[1]
        found[:, :, row, column, down, right] = x[:, :, at[0], at[1]]
    return found


def _convolution(
    x: Array, weight: Array, bias: Array, pad: list[int], strides: Any, dilations: Any, groups: int
) -> Array:
    windows = _windows(_padded(x, pad), list(weight.shape[2:]), strides, dilations)
    wide, deep = weight.shape[0] // groups, x.shape[1] // groups
    parts = []
    for group in range(groups):
        kernels = weight[group * wide : (group + 1) * wide].astype(np.float64)
        part = windows[:, group * deep : (group + 1) * deep]
        parts.append(np.einsum("nchwij,ocij->nohw", part, kernels))
    return np.concatenate(parts, axis=1) + bias.reshape(1, -1, 1, 1)


@FEW
@given(seed=SEEDS, groups=st.sampled_from([1, 2]), data=st.data())
def test_conv(seed: int, groups: int, data: st.DataObject) -> None:
    def sizes(low: int, high: int, count: int = 2) -> list[int]:
        return data.draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    x = numbers(seed, (2, 4, *sizes(5, 6)))
    weight, bias = numbers(seed + 1, (6, 4 // groups, *sizes(1, 3))), numbers(seed + 2, (6,))
    strides, dilations, pad = sizes(1, 2), sizes(1, 2), sizes(0, 2, 4)
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


def test_custom_padding_needs_its_numbers() -> None:
    with pytest.raises(ValueError, match="two numbers for each spatial axis"):
        computed("conv", x=numbers(0, (1, 2, 5, 5)), weight=numbers(1, (3, 2, 3, 3)), pad_type="custom", pad=[1, 1])


@pytest.mark.parametrize("shape", [(1, 2, 5), (1, 2, 5, 5, 5)])
def test_only_images_are_known(shape: tuple[int, ...]) -> None:
    spatial = len(shape) - 2
    with pytest.raises(ValueError, match=r"only images \[N, C, H, W\] are known, not \[1, 2, 5"):
        computed("conv", x=numbers(0, shape), weight=numbers(1, (3, 2, *[3] * spatial)))
    for kind in ("avg_pool", "max_pool"):
        with pytest.raises(ValueError, match="only images"):
            computed(kind, x=numbers(0, shape), kernel_sizes=[2] * spatial, pad_type="valid")


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


@FEW
@given(seed=SEEDS, shape=SHAPES, keep=st.booleans(), data=st.data())
def test_means_over_any_axes(seed: int, shape: tuple[int, ...], keep: bool, data: st.DataObject) -> None:
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, max_size=len(shape), unique=True))
    signed = [axis - len(shape) if data.draw(st.booleans()) else axis for axis in axes]
    arguments: dict[str, Any] = {"x": numbers(seed, shape), "axes": np.array(signed, np.int32)}
    check("reduce_mean", 5e-6, **arguments, **({"keep_dims": True} if keep else {}))


def test_a_mean_is_over_all_axes_by_default() -> None:
    check("reduce_mean", 5e-6, x=numbers(3, (2, 3, 4)))
