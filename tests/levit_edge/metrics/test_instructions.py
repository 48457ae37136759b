"""Counts of instructions become figures."""

from __future__ import annotations

import pytest

from levit_edge.metrics.instructions import KERNELS_SHOWN, OTHER, Instructions


def _of(fp32: tuple[int, ...], built: tuple[int, ...], *kernels: tuple[str, str, str, int]) -> Instructions:
    return Instructions.of(device="d", runtime="r", fp32=fp32, built=built, kernels=kernels)


def test_the_median_counts_and_the_wider_spread_is_told() -> None:
    found = _of((300, 306, 294), (100, 101, 100))
    assert (found.runs, found.fp32_instructions, found.instructions, found.ratio) == (3, 300, 100, 3.0)
    assert found.spread_pct == pytest.approx(4.0)
    assert _of((300, 300, 300), (100, 110, 100)).spread_pct == pytest.approx(10.0)


def test_the_largest_functions_are_listed_and_the_rest_is_one_line() -> None:
    kernels = [("lib", f"f{size}", "sdot", size) for size in range(1, 21)]
    found = _of((1000,), (400,), *kernels)
    assert [kernel.function for kernel in found.kernels] == [*(f"f{size}" for size in range(20, 8, -1)), OTHER]
    assert len(found.kernels) == KERNELS_SHOWN + 1
    assert sum(kernel.instructions for kernel in found.kernels) == 400
    assert sum(kernel.share_pct for kernel in found.kernels) == pytest.approx(100)
    assert found.kernels[0].share_pct == pytest.approx(5.0)


def test_nothing_is_other_when_everything_is_listed() -> None:
    found = _of((1000,), (400,), ("lib", "f", "sdot", 300), ("lib", "g", "fmla", 100))
    assert [(kernel.function, kernel.share_pct) for kernel in found.kernels] == [("f", 75.0), ("g", 25.0)]


@pytest.mark.parametrize(("fp32", "built"), [((), ()), ((1,), ()), ((1, 2), (1,))])
def test_counts_that_do_not_match_are_refused(fp32: tuple[int, ...], built: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="counted inferences cannot be compared"):
        _of(fp32, built)
