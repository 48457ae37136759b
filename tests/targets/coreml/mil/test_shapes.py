"""Operators that move values, against coremltools' own value inference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from targets.coreml.mil.shapes import OPERATORS
from tests.targets.coreml.mil.reference import FEW, SEEDS, SHAPES, check, close, computed, numbers

TESTED = ("reshape", "transpose", "expand_dims", "squeeze", "slice_by_index", "split", "concat", "pad")


def _integers(values: Any) -> Any:
    return np.array(values, np.int32)


def test_every_move_is_tested_here() -> None:
    assert sorted(TESTED) == sorted(OPERATORS)


@pytest.mark.parametrize(
    ("shape", "target"),
    [
        ((2, 50), (1, 0, -1, 0)),  # the example of the reference: [1, 1, 2, 50]
        ((2, 3, 4), (0, -1)),
        ((2, 3, 4), (-1, 0)),
        ((2, 3, 4), (0, 0, 0)),
        ((2, 3, 4), (6, -1)),
        ((2, 3, 4), (24,)),
        ((5, 2, 2), (0, 10, 0, 1)),
    ],
)
def test_reshape(shape: tuple[int, ...], target: tuple[int, ...]) -> None:
    x = numbers(0, shape)
    if 0 in target and np.prod([size or 1 for size in target]) > x.size:
        pytest.skip("not a reshape")
    try:
        check("reshape", 0.0, x=x, shape=_integers(target))
    except ValueError:  # coremltools says that it cannot be
        with pytest.raises((ValueError, RuntimeError)):
            computed("reshape", x=x, shape=target)


@FEW
@given(seed=SEEDS, shape=SHAPES, data=st.data())
def test_axes_move(seed: int, shape: tuple[int, ...], data: st.DataObject) -> None:
    x, rank = numbers(seed, shape), len(shape)
    perm = data.draw(st.permutations(range(rank)))
    check("transpose", 0.0, x=x, perm=_integers([axis - rank if axis % 2 else axis for axis in perm]))
    axes = data.draw(st.lists(st.integers(0, rank + 1), min_size=2, max_size=2, unique=True))
    check("expand_dims", 0.0, x=x, axes=_integers([axes[0] - rank - 2, axes[1]]))


def test_squeeze_drops_axes_of_one_only() -> None:
    x = numbers(0, (1, 3, 1, 2, 1))
    check("squeeze", 0.0, x=x)
    check("squeeze", 0.0, x=x, axes=_integers([0, -1]))
    check("squeeze", 0.0, x=x, axes=_integers([2]))


@FEW
@given(seed=SEEDS, data=st.data())
def test_slices_by_index(seed: int, data: st.DataObject) -> None:
    shape = (4, 5, 3)
    begin = [data.draw(st.integers(-size, size - 1)) for size in shape]
    end = [data.draw(st.integers(-size, size)) for size in shape]
    stride = [data.draw(st.integers(1, 3)) for _ in shape]
    masks = [[data.draw(st.booleans()) for _ in shape] for _ in range(2)]
    squeezed = [data.draw(st.booleans()) and axis < 2 for axis in range(3)]
    arguments: dict[str, Any] = {"begin": _integers(begin), "end": _integers(end), "stride": _integers(stride)}
    arguments |= {"begin_mask": masks[0], "end_mask": masks[1], "squeeze_mask": squeezed}
    ends = [None if last else e for e, last in zip(end, masks[1], strict=True)]
    begins = [None if first else b for b, first in zip(begin, masks[0], strict=True)]
    cuts = tuple(
        b if drop else slice(first, last, step)
        for b, first, last, step, drop in zip(begin, begins, ends, stride, squeezed, strict=True)
    )
    x = numbers(seed, shape)
    close(computed("slice_by_index", x=x, **arguments), x[cuts], 0.0)  # "numpy style indexing and slicing"
    assume(x[cuts].size)
    if not any(squeezed):
        check("slice_by_index", 0.0, x=x, begin=_integers([0, 1, 0]), end=_integers([4, 5, 2]))


@pytest.mark.parametrize(
    ("begin", "end", "stride", "masks"),
    [([3, 4], [0, 1], [-1, -2], None), ([0, 0], [0, 0], [-1, -1], True), ([3, 0], [0, 0], [-2, -1], (False, True))],
)
def test_slices_backwards(begin: list[int], end: list[int], stride: list[int], masks: Any) -> None:
    mask = [masks] * 2 if isinstance(masks, bool) else list(masks) if masks else [False, False]
    arguments = {"begin": _integers(begin), "end": _integers(end), "stride": _integers(stride)}
    check("slice_by_index", 0.0, x=numbers(0, (4, 5)), **arguments, begin_mask=mask, end_mask=mask)


@FEW
@given(seed=SEEDS, axis=st.integers(-3, 2))
def test_parts(seed: int, axis: int) -> None:
    x = numbers(seed, (6, 6, 6))
    check("split", 0.0, x=x, axis=np.int32(axis), num_splits=np.int32(3))
    check("split", 0.0, x=x, axis=np.int32(axis), split_sizes=_integers([1, 3, 2]))
    check("split", 0.0, x=x, axis=np.int32(axis), num_splits=np.int32(2), split_sizes=_integers([4, 2]))
    with pytest.raises(ValueError, match="an axis of 6 cannot be cut into 4 equal parts"):
        computed("split", x=x, axis=axis, num_splits=4)


@FEW
@given(seed=SEEDS, shape=SHAPES, data=st.data())
def test_joins(seed: int, shape: tuple[int, ...], data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    values = tuple(numbers(seed + index, shape) for index in range(3))
    check("concat", 0.0, values=values, axis=np.int32(axis))


@pytest.mark.parametrize("pad", [(1, 2), (1, 0, 2, 1)])
def test_pad(pad: tuple[int, ...]) -> None:
    x = numbers(0, (2, 4, 5))
    check("pad", 0.0, x=x, pad=_integers(pad), mode="constant")
    check("pad", 0.0, x=x, pad=_integers(pad), constant_val=np.float32(-1.5))
