"""Between calibration and lowering: what each target keeps float to reach the SQNR that was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from levit_edge.errors import InputError
from levit_edge.metrics.sqnr import finite_or_none
from levit_edge.pipeline.batched import batched_program
from levit_edge.pipeline.calibrate import Calibrated
from levit_edge.pipeline.images import limited
from levit_edge.pipeline.plan import Job
from levit_edge.report.mixed_precision import KeptTensor, MixedPrecision
from quantize.mixed_precision import Choice, Search
from quantize.recipes import Recipe
from quantize.rescaling import with_parameters
from quantize.sensitivity import batch_size

SEARCH_IMAGES = 64  # an SQNR over so many images is known within about 1 dB


@dataclass(frozen=True)
class Chosen:
    """The recipe of one target, and how it was chosen; None where it is that of the build as it is."""

    recipe: Recipe
    search: MixedPrecision | None = None


def choose(job: Job, calibrated: Calibrated) -> Mapping[str, Chosen]:
    """The recipe of each target: with ``min_sqnr``, as many more tensors stay float as it takes, the cheapest first.

    InputError where there is no image to evaluate on. Calibration images would not do: they chose the ranges, and where
    the model was trained on them its logits are larger than on others.
    """
    plan, goal_db = job.plan, job.plan.options.min_sqnr
    if goal_db is None or not plan.recipe.calibrates:
        return {target.name: Chosen(plan.recipe) for target in plan.targets}
    program = with_parameters(batched_program(job.subject), calibrated.parameters)
    batches = _images(job, batch_size(program.module()))
    images = sum(map(len, batches))
    chosen = {}
    for target in plan.targets:
        search = Search(program, plan.recipe, target.scheme, calibrated.histograms, batches)
        with job.progress.step(f"{target.name}: choose what stays float"):
            found = search.reach(goal_db)
        chosen[target.name] = Chosen(found.recipe, _record(found, goal_db, images))
    return chosen


def _images(job: Job, size: int) -> tuple[Tensor, ...]:
    """Float32 [B, C, H, W] of at most ``size`` images each, drawn from those of the evaluation."""
    selection = job.images.evaluation
    if selection is None:
        raise InputError("--min-sqnr needs images to evaluate on, and none is left; name some with --eval DATA")
    some = replace(selection, items=limited(selection.items, SEARCH_IMAGES, job.plan.options.seed))
    return tuple(torch.from_numpy(batch.inputs) for batch in some.batches(job.progress, "images of the search", size))


def _record(found: Choice, goal_db: float, images: int) -> MixedPrecision:
    return MixedPrecision(
        goal_db=goal_db,
        images=images,
        before_db=finite_or_none(found.before.sqnr_db),
        reached=found.estimate.at_least_db >= goal_db,
        kept=tuple(
            KeptTensor(
                tensor=step.name,
                sqnr_db=finite_or_none(step.estimate.sqnr_db),
                at_least_db=finite_or_none(step.estimate.at_least_db),
                float_macs=step.float_macs,
            )
            for step in found.steps
        ),
    )
