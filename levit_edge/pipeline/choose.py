"""Between calibration and lowering: what each target keeps float to reach the accuracy that was asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from levit_edge.errors import InputError
from levit_edge.metrics.accuracy import AccuracyMeter
from levit_edge.metrics.sqnr import finite_or_none
from levit_edge.pipeline.batched import batched_program
from levit_edge.pipeline.calibrate import Calibrated
from levit_edge.pipeline.images import Selection, limited
from levit_edge.pipeline.plan import Job
from levit_edge.progress import Progress
from levit_edge.report.mixed_precision import Confirmed, KeptTensor, MixedPrecision
from quantize.mixed_precision import Choice, Figures, Goal, Search
from quantize.recipes import Recipe
from quantize.rescaling import with_parameters
from quantize.switched_program import SwitchedProgram, batch_size

SEARCH_IMAGES = 64  # they rank the tensors
CONFIRM_IMAGES = 1000  # they decide: 0.2 percentage points are two of them


@dataclass(frozen=True)
class Chosen:
    """The recipe of one target, and how it was chosen; None where it is that of the build as it is."""

    recipe: Recipe
    search: MixedPrecision | None = None


def choose(job: Job, calibrated: Calibrated) -> Mapping[str, Chosen]:
    """The recipe of each target; to reach ``min_sqnr`` and ``max_drop``, it keeps more float, the cheapest first.

    InputError where there is no image to evaluate on. Calibration images would not do: they chose the ranges, and where
    the model was trained on them its logits are larger than on others.
    """
    plan, options = job.plan, job.plan.options
    if (options.min_sqnr is None and options.max_drop is None) or not plan.recipe.calibrates:
        return {target.name: Chosen(plan.recipe.resolved(target.scheme)) for target in plan.targets}
    goal = Goal(
        -math.inf if options.min_sqnr is None else options.min_sqnr,
        math.inf if options.max_drop is None else options.max_drop,
    )
    program = with_parameters(batched_program(job.subject), calibrated.parameters)
    size = batch_size(program.module())
    confirmation = _Confirmation(_drawn(job, CONFIRM_IMAGES), size, job.progress, options.max_drop is not None)
    shown = _drawn(job, SEARCH_IMAGES).batches(job.progress, "images of the search", size)
    batches = tuple(torch.from_numpy(batch.inputs) for batch in shown)
    chosen = {}
    for target in plan.targets:
        search = Search(program, plan.recipe, target.scheme, calibrated.histograms, batches, confirmation)
        with job.progress.step(f"{target.name}: choose what stays float"):
            found = search.reach(goal)
        chosen[target.name] = Chosen(found.recipe, _record(found, job, sum(map(len, batches)), confirmation.images))
    return chosen


def _drawn(job: Job, count: int) -> Selection:
    """At most ``count`` images of the evaluation."""
    selection = job.images.evaluation
    if selection is None:
        asked = "--min-sqnr" if job.plan.options.min_sqnr is not None else "--max-drop"
        raise InputError(f"{asked} needs images to evaluate on, and none is left; name some with --eval DATA")
    return replace(selection, items=limited(selection.items, count, job.plan.options.seed))


@dataclass
class _Confirmation:
    """Measures programs on the images that decide. What the float model answers to them is computed once."""

    selection: Selection
    size: int
    progress: Progress
    needs_labels: bool
    images: int = 0
    _floats: list[Tensor] = field(default_factory=list)

    def __call__(self, switched: SwitchedProgram) -> Figures:
        meter, self.images = AccuracyMeter(), 0
        batches = self.selection.batches(self.progress, "confirm", self.size)
        with torch.no_grad():
            for index, batch in enumerate(batches):
                inputs, count = torch.from_numpy(batch.inputs), len(batch.inputs)
                if index == len(self._floats):
                    self._floats.append(switched.logits(switched.run(inputs, frozenset()))[:count])
                logits = switched.logits(switched.run(inputs, switched.every))[:count]
                meter.update(self._floats[index].numpy(), logits.numpy(), batch.class_index)
                self.images += count
        found = meter.result(runtime="torch", executed=False)
        if self.needs_labels and found.top1_drop_pp is None:
            raise InputError(f"{self.selection.source}: no image has a class of the model; --max-drop needs some")
        return Figures(math.inf if found.sqnr_db is None else found.sqnr_db, found.top1_drop_pp)


def _record(found: Choice, job: Job, images: int, confirmed_images: int) -> MixedPrecision:
    return MixedPrecision(
        goal_db=job.plan.options.min_sqnr,
        goal_drop_pp=job.plan.options.max_drop,
        images=images,
        confirmed_images=confirmed_images,
        before_db=finite_or_none(found.before),
        before_confirmed=None if found.before_confirmed is None else _confirmed(found.before_confirmed),
        reached=found.reached,
        confirmed=_confirmed(found.found),
        kept=tuple(
            KeptTensor(
                tensor=step.name,
                sqnr_db=finite_or_none(step.sqnr_db),
                float_macs=step.float_macs,
                confirmed=None if step.confirmed is None else _confirmed(step.confirmed),
            )
            for step in found.steps
        ),
    )


def _confirmed(found: Figures) -> Confirmed:
    return Confirmed(sqnr_db=finite_or_none(found.sqnr_db), top1_drop_pp=found.top1_drop_pp)
