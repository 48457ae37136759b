"""The error of int8 against the float model, in torch: of the program that a build would lower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from calibration import Batch
from levit_edge.pipeline.batched import batched_program
from levit_edge.pipeline.calibrate import calibrate
from levit_edge.pipeline.images import open_images
from levit_edge.pipeline.load import Subject, load
from levit_edge.pipeline.options import BuildOptions
from levit_edge.pipeline.plan import Job, make_plan
from levit_edge.progress import QUIET
from quantize.flow import prepare
from quantize.recipes import RECIPES, Recipe
from quantize.rescaling import with_parameters
from quantize.sensitivity import Noise
from quantize.switched_program import SwitchedProgram

DEFAULT = RECIPES["int8"]


@dataclass(frozen=True)
class Measured:
    """One build of one model: the noise of each target, and whether its channels were rescaled."""

    noise: Mapping[str, Noise]
    rescaled: bool


@dataclass(frozen=True)
class Scene:
    """A model and the images that judge it."""

    subject: Subject
    evaluation: Sequence[Batch]

    @classmethod
    def of(cls, model: nn.Module | None, like: Subject, evaluation: Sequence[Batch]) -> Scene:
        """``model`` with the labels and the preprocessing of ``like``."""
        found = load(BuildOptions(model=model))
        return cls(replace(found, labels=like.labels, preprocessing=like.preprocessing), evaluation)

    @cached_property
    def floats(self) -> tuple[Tensor, ...]:
        """The logits of the float model, batch by batch."""
        with torch.no_grad():
            return tuple(self.subject.fused(torch.from_numpy(batch.inputs)) for batch in self.evaluation)

    @property
    def top1_pct(self) -> float:
        """Of the float model."""
        right = sum(
            int((logits.argmax(1).numpy() == batch.class_index).sum())
            for logits, batch in zip(self.floats, self.evaluation, strict=True)
        )
        return 100 * right / sum(len(logits) for logits in self.floats)

    def measure(self, calibration: Path, samples: int, seed: int, recipe: Recipe = DEFAULT) -> Measured:
        """All targets, calibrated on ``samples`` images that ``seed`` draws from ``calibration``."""
        options = BuildOptions(calibration=calibration, samples=samples, seed=seed)
        plan = replace(make_plan(options), recipe=recipe)
        with open_images(options, self.subject, calibrates=True) as images:
            calibrated = calibrate(Job(plan, self.subject, images, Path(), QUIET))
        program = with_parameters(batched_program(self.subject), calibrated.parameters)
        noise = {target.name: Noise() for target in plan.targets}
        for target in plan.targets:
            switched = SwitchedProgram(prepare(program, recipe, target.scheme, calibrated.histograms))
            with torch.no_grad():
                for batch, floats in zip(self.evaluation, self.floats, strict=True):
                    values = switched.run(torch.from_numpy(batch.inputs), switched.every)
                    noise[target.name].add(floats, switched.logits(values)[: len(floats)])
        return Measured(noise, bool(calibrated.parameters))
