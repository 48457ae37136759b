"""Step 4: one target's model files: quantize the program, lower it, and load what was written from disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.export import ExportedProgram

from levit_edge.bundle.manifest import PROGRAM_NAME
from levit_edge.metrics.program_match import ProgramMatch
from levit_edge.pipeline.calibrate import Calibrated
from levit_edge.pipeline.choose import Chosen
from levit_edge.pipeline.plan import Job
from quantize.flow import quantize
from quantize.recipes import Recipe
from targets.program.run import ProgramRunner
from targets.runner import Runner
from targets.target import Target


@dataclass(frozen=True)
class Lowered:
    """A bundle in the making: its folder, the quantized program, and both of its models loaded from disk.

    ``chosen`` has the recipe of this target.
    ``program_runner`` computes the program in torch. ``program_match`` says how the built model compares with it, None
    before that is known and where the target cannot tell.
    """

    target: Target
    chosen: Chosen
    folder: Path
    program: ExportedProgram
    program_runner: ProgramRunner
    runner: Runner
    reference: Runner
    program_match: ProgramMatch | None = None

    @property
    def recipe(self) -> Recipe:
        """That of this target."""
        return self.chosen.recipe

    @property
    def model_path(self) -> Path:
        """The built model: a file, or a folder for a target whose format is one."""
        return self.folder / self.target.model_file

    @property
    def reference_path(self) -> Path:
        """The float reference of the same target."""
        return self.folder / self.target.reference_file


def lower(job: Job, target: Target, chosen: Chosen, calibrated: Calibrated) -> Lowered:
    """Write the built model, its float reference and the quantized program into the target's folder; load them."""
    recipe, subject, step = chosen.recipe, job.subject, job.progress.step
    folder, backend = job.staging / target.name, target.backend
    model, reference = folder / target.model_file, folder / target.reference_file
    folder.mkdir()
    with step(f"{target.name}: quantize"):
        program = quantize(calibrated.program, subject.example, recipe, target.scheme, calibrated.histograms)
    with step(f"{target.name}: lower {recipe.name}"):
        backend.lower(program, model, recipe.half)
    with step(f"{target.name}: lower the float reference"):
        backend.lower(subject.program, reference, False)
    torch.export.save(program, folder / PROGRAM_NAME)
    threads = job.plan.options.threads
    return Lowered(
        target=target,
        chosen=chosen,
        folder=folder,
        program=program,
        program_runner=ProgramRunner(program),
        runner=backend.load(model, threads),
        reference=backend.load(reference, threads),
    )
