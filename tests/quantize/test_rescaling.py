"""Wide channels are repaired, and a model that has none stays as it is."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import ExportedProgram

from benchmarks.outlier_channels import with_outliers
from levit_edge.families.levit.fuse import fuse
from levit_edge.families.levit.model import Levit
from levit_edge.families.load import from_module
from levit_edge.pipeline.verify import sqnr_db
from quantize.channel_factors import Side, Sum, channel_factors
from quantize.channels import FIXED
from quantize.flow import calibrate, quantize, trace
from quantize.recipes import RECIPES
from quantize.rescaling import rescaled_parameters, with_parameters
from targets.registry import TARGETS
from tests.levit_edge.families.levit.levits import hf_model
from tests.programs import micro, micro_config, run

WIDE = (30.0, 1 / 30)
PER_TENSOR = 2


def model(factor: float = 1.0) -> Levit:
    """The micro model before it is fused, with channels ``factor`` times as wide."""
    published = from_module(hf_model(micro_config(), heads=2)).model
    assert isinstance(published, Levit)
    return with_outliers(published, factor, PER_TENSOR)


@cache
def exact() -> NDArray[np.float64]:
    """What the model without wide channels answers, in float64 and before it is fused."""
    with torch.no_grad():
        logits = model().double()(micro().images.double()).logits
    assert isinstance(logits, Tensor)
    found: NDArray[np.float64] = logits.numpy()
    return found


@cache
def untouched(factor: float) -> ExportedProgram:
    return trace(fuse(model(factor)), micro().example)


@cache
def repaired(factor: float) -> ExportedProgram:
    program = untouched(factor)
    return with_parameters(program, rescaled_parameters(program, micro().calibration.split(3)))


@cache
def int8_db(program: ExportedProgram, target: str) -> float:
    histograms = calibrate(program, [micro().calibration])
    found = quantize(program, micro().example, RECIPES["int8"], TARGETS[target].scheme, histograms)
    return sqnr_db(exact(), run(found, micro().images))


@pytest.mark.parametrize("factor", WIDE)
def test_the_float_function_is_the_same(factor: float) -> None:
    before, after = (run(program, micro().images) for program in (untouched(factor), repaired(factor)))
    assert np.array_equal(before, after)
    assert sqnr_db(exact(), after) > 110


@pytest.mark.parametrize("factor", WIDE)
@pytest.mark.parametrize("target", TARGETS)
def test_wide_channels_ruin_int8_and_rescaling_repairs_it(target: str, factor: float) -> None:
    plain, without, repair = (
        int8_db(program, target) for program in (untouched(1.0), untouched(factor), repaired(factor))
    )
    assert without < plain - 6
    assert repair > plain - 1


def test_without_wide_channels_the_program_is_the_same_object() -> None:
    assert repaired(1.0) is untouched(1.0)


def test_without_images_nothing_changes() -> None:
    assert rescaled_parameters(untouched(30.0), []) == {}


def test_an_image_of_nan_changes_nothing_and_is_refused_later() -> None:
    bad = torch.full_like(micro().example, torch.nan)
    assert rescaled_parameters(untouched(30.0), [bad]) == {}


def test_channels_that_are_always_zero_do_no_harm() -> None:
    program = untouched(30.0)
    dead = {name: value.clone() for name, value in program.state_dict.items()}
    for name in ("blocks.0.q.weight", "blocks.0.q.bias", "stem.3.weight", "blocks.1.up.weight"):
        dead[name][0] = 0  # a row
    for name in ("blocks.0.q.weight", "blocks.0.k.weight", "blocks.0.v.weight", "blocks.1.up.weight"):
        dead[name][:, 5] = 0  # a column
    broken = with_parameters(program, dead)
    changed = rescaled_parameters(broken, [micro().calibration])
    assert changed and all(bool(value.isfinite().all()) for value in changed.values())
    after = with_parameters(broken, changed)
    assert np.array_equal(run(after, micro().images), run(broken, micro().images))


def _sum(peaks: list[float], weights: list[list[float]], groups: list[int], signs: list[int]) -> Sum:
    left, right = torch.tensor([peaks]).double(), torch.tensor(weights).double()
    sides = Side(left, left.square() / 9), Side(right, right.square())
    return Sum(torch.tensor(groups), torch.tensor(signs), *sides)


ONES = [1.0] * 8


def test_the_factors_by_hand() -> None:
    plain = channel_factors([_sum([1, 2, 3, 1, 2, 1, 1, 1], [ONES], [*range(8)], [1] * 8)], 8)
    assert plain.tolist() == ONES
    undone = _sum([*ONES[:7], 64], [[*ONES[:7], 1 / 64], [*ONES[:7], 1 / 64]], [*range(8)], [1] * 8)
    assert channel_factors([undone], 8).tolist() == [*ONES[:7], 64]
    shared = _sum([*ONES[:7], 64], [ONES], [*range(8)], [1] * 8)  # half of it goes to the weights, as exponents
    assert channel_factors([shared], 8).tolist() == [*ONES[:7], 8]
    unread = _sum([*ONES[:7], 64], [[*ONES[:7], 0.0]], [*range(8)], [1] * 8)
    assert channel_factors([unread], 8).tolist() == [*ONES[:7], 64]  # not below the others
    dead = _sum([*ONES[:7], 0.0], [ONES], [*range(8)], [1] * 8)
    assert channel_factors([dead], 8).tolist() == ONES


def test_a_negative_sign_inverts_the_factor() -> None:
    inverse = _sum([*ONES[:7], 64], [[*ONES[:7], 1 / 64]], [*range(8)], [1] * 7 + [-1])
    assert channel_factors([inverse], 8).tolist() == [*ONES[:7], 1 / 64]


def test_what_is_fixed_has_no_factor_and_may_be_all_there_is() -> None:
    fixed = _sum([*ONES[:6], 64, 64], [[*ONES[:6], 1 / 64, 1 / 64]], [*range(6), 6, FIXED], [1] * 8)
    assert channel_factors([fixed], 7).tolist() == ONES[:7]  # the other wide channel stays: nothing would be gained


def test_sums_without_a_channel_in_common_are_judged_apart() -> None:
    wide = _sum([*ONES[:7], 64], [[*ONES[:7], 1 / 64]], [*range(8)], [1] * 8)
    close = _sum([*ONES[:7], 1.5], [[*ONES[:7], 1 / 1.5]], [*range(8, 16)], [1] * 8)
    assert channel_factors([wide, close], 16).tolist() == [*ONES[:7], 64, *ONES]
