"""What the search keeps float, against the programs that its recipes give."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from levit_edge.pipeline.verify import sqnr_db
from quantize.flow import quantize, trace
from quantize.mixed_precision import Choice, Estimate, Search
from targets.program.parameters import stored_ranges
from targets.registry import TARGETS
from tests.programs import FULL, micro, quantized, run

NAMES = tuple(TARGETS)
BATCH = 4
OUT_OF_REACH_DB = 200.0


def search(name: str) -> Search:
    scene = micro()
    program = trace(scene.model, scene.images[:BATCH])
    return Search(program, FULL, TARGETS[name].scheme, scene.histograms, scene.images.split(BATCH))


@cache
def found(name: str, more_db: float) -> Choice:
    """What brings the lower end of the estimate ``more_db`` above that of the recipe which stores everything."""
    return search(name).reach(search(name).reach(0).before.at_least_db + more_db)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_kept_where_the_recipe_reaches_the_goal(name: str) -> None:
    choice = found(name, 0)
    assert (choice.recipe, choice.steps) == (FULL, ())
    measured = sqnr_db(micro().logits, run(quantized(name), micro().images))
    assert choice.before.sqnr_db == pytest.approx(measured, abs=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_has_the_ratio_that_the_search_states(name: str) -> None:
    choice, scene = found(name, 3), micro()
    ratios = [choice.before.sqnr_db, *(step.estimate.sqnr_db for step in choice.steps)]
    assert ratios == sorted(ratios) and len(ratios) > 1
    assert choice.estimate.at_least_db >= choice.before.at_least_db + 3
    assert all(step.estimate.at_least_db < choice.before.at_least_db + 3 for step in choice.steps[:-1])
    assert choice.recipe == replace(FULL, keep_float=tuple(step.name for step in choice.steps))
    program = quantize(scene.program, scene.example, choice.recipe, TARGETS[name].scheme, scene.histograms)
    assert sqnr_db(scene.logits, run(program, scene.images)) == pytest.approx(choice.estimate.sqnr_db, abs=0.01)
    assert not set(choice.recipe.keep_float) & set(stored_ranges(program))


@pytest.mark.parametrize("name", NAMES)
def test_a_goal_out_of_reach_ends_with_the_best(name: str) -> None:
    tried = search(name)
    choice = tried.reach(OUT_OF_REACH_DB)
    assert choice.estimate.at_least_db < OUT_OF_REACH_DB
    assert choice.estimate.sqnr_db > choice.before.sqnr_db + 6
    names = [step.name for step in choice.steps]
    assert len(set(names)) == len(names)
    scheme = TARGETS[name].scheme
    if scheme.required:  # an integer layer of this target gives only integers
        assert not [step for step in names if step.endswith(".q output")]


@pytest.mark.parametrize("name", NAMES)
def test_the_first_step_is_worth_most_and_removes_what_was_predicted(name: str) -> None:
    tried, choice = search(name), found(name, 3)
    before, candidates = tried._look(FULL, {})
    first = candidates[choice.steps[0].name]
    assert first.worth == max(candidate.worth for candidate in candidates.values())
    for tensor in ("head input", "stem.1 input"):
        after, _ = tried._look(replace(FULL, keep_float=(tensor,)), {})
        # Not all of it: an integer Hardswish is computed in another order when it is float.
        assert candidates[tensor].removed == pytest.approx(before.noise - after.noise, abs=0.1 * before.noise)


def test_the_interval_is_that_of_the_bootstrap() -> None:
    generator = np.random.default_rng(0)
    signal = generator.lognormal(0, 0.4, 400)
    noise = signal * 1e-3 * generator.lognormal(0, 0.9, 400)
    found = Estimate.of(torch.from_numpy(signal), torch.from_numpy(noise))
    drawn = generator.integers(0, 400, (4000, 400))
    ratios = 10 * np.log10(signal[drawn].sum(1) / noise[drawn].sum(1))
    assert found.sqnr_db == pytest.approx(10 * math.log10(signal.sum() / noise.sum()))
    assert found.at_least_db == pytest.approx(float(np.quantile(ratios, 0.05)), abs=0.1)


def test_one_image_has_no_interval_and_no_error_no_end() -> None:
    one, none = torch.ones(1, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    assert Estimate.of(one, one / 100) == Estimate(pytest.approx(20.0), -math.inf, pytest.approx(0.01))
    assert Estimate.of(torch.ones(2, dtype=torch.float64), none).at_least_db == math.inf


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="no image"):
        replace(search("onnx"), batches=()).reach(30)
