"""Step 3: what the calibration images show: one histogram per tensor, gathered once for all targets."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice

import torch
from torch import Tensor
from torch.export import ExportedProgram

from calibration import calibration_hash
from levit_edge.bundle.manifest import CalibrationInfo
from levit_edge.errors import InputError
from levit_edge.pipeline.images import BATCH
from levit_edge.pipeline.plan import Job
from levit_edge.wording import listed
from quantize.flow import calibrate as gather
from quantize.names import find_kept
from quantize.rescaling import RESCALING_IMAGES, rescaled_parameters, with_parameters
from quantize.statistics import Histogram

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibrated:
    """What is quantized, histograms of its tensors by node name, and the images behind them.

    ``program`` is the float program of the model, and where the recipe rescaled channels the one that computes the same
    with other ``parameters``, by name. For a recipe that does not calibrate there is nothing else.
    """

    program: ExportedProgram
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    info: CalibrationInfo | None = None
    skipped: tuple[str, ...] = ()


def calibrate(job: Job) -> Calibrated:
    """Show every calibration image to the float program; InputError when one cannot be used."""
    selection, program = job.images.calibration, job.subject.program
    if not job.plan.recipe.calibrates or selection is None:
        return Calibrated(program)
    if names := job.plan.recipe.kept_tensors:
        find_kept(program.module().graph, names)  # refuses unknown ones before the images are shown
    skipped: list[str] = []

    def inputs() -> Iterator[Tensor]:
        for batch in selection.batches(job.progress, "calibrate"):
            skipped.extend(name for name, _ in batch.skipped)
            yield torch.from_numpy(batch.inputs)

    try:
        images = inputs()
        first = list(islice(images, -(-RESCALING_IMAGES // BATCH))) if job.plan.recipe.rescale_channels else []
        parameters = rescaled_parameters(program, first) if first else {}
        if parameters:
            logger.info("channels of very different width: rescaled %s", listed(sorted(parameters), 6))
        program = with_parameters(program, parameters)
        histograms = gather(program, chain(first, images))
    except ValueError as error:
        raise InputError(f"{selection.source}: {error}") from None
    seed = job.plan.options.seed
    kept = tuple(item for item in selection.items if item.name not in skipped)
    sha256 = calibration_hash(selection.images, kept, selection.preprocessing, seed)
    info = CalibrationInfo(source=selection.source, sha256=sha256, seed=seed, samples=len(kept))
    return Calibrated(program, parameters, histograms, info, tuple(skipped))
