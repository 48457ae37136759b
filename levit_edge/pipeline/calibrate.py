"""Step 3: what the calibration images show: one histogram per tensor, gathered once for all targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from calibration import calibration_hash
from levit_edge.bundle.manifest import CalibrationInfo
from levit_edge.errors import InputError
from levit_edge.pipeline.plan import Job
from quantize.flow import calibrate as gather
from quantize.names import find_kept
from quantize.statistics import Histogram


@dataclass(frozen=True)
class Calibrated:
    """Histograms by node name, and the images behind them; both empty for a recipe that does not calibrate."""

    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    info: CalibrationInfo | None = None
    skipped: tuple[str, ...] = ()


def calibrate(job: Job) -> Calibrated:
    """Show every calibration image to the float program; InputError when one cannot be used."""
    selection = job.images.calibration
    if not job.plan.recipe.calibrates or selection is None:
        return Calibrated()
    if names := job.plan.recipe.kept_tensors:
        find_kept(job.subject.program.module().graph, names)  # refuses unknown ones before the images are shown
    skipped: list[str] = []

    def inputs() -> Iterator[Tensor]:
        for batch in selection.batches(job.progress, "calibrate"):
            skipped.extend(name for name, _ in batch.skipped)
            yield torch.from_numpy(batch.inputs)

    try:
        histograms = gather(job.subject.program, inputs())
    except ValueError as error:
        raise InputError(f"{selection.source}: {error}") from None
    seed = job.plan.options.seed
    kept = tuple(item for item in selection.items if item.name not in skipped)
    sha256 = calibration_hash(selection.images, kept, selection.preprocessing, seed)
    info = CalibrationInfo(source=selection.source, sha256=sha256, seed=seed, samples=len(kept))
    return Calibrated(histograms, info, tuple(skipped))
