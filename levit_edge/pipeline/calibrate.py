"""Step 3: what the calibration images show: one histogram per tensor, gathered once for all targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from calibration import ImageItem, calibration_hash
from levit_edge.bundle.manifest import CalibrationInfo
from levit_edge.errors import InputError
from levit_edge.pipeline.images import Selection, limited
from levit_edge.pipeline.plan import Job
from quantize.flow import calibrate as gather
from quantize.names import find_tensors
from quantize.statistics import Histogram, merged

Histograms = Mapping[str, Histogram]

HELD_OUT = 64  # at most; an SQNR over so many images is known within about 1 dB
_HELD_OUT_SHARE = 4  # at most one image of four


@dataclass(frozen=True)
class HeldOut:
    """Some of the calibration ``images``, float32 [1, C, H, W] each, and the ``histograms`` of all the others."""

    images: tuple[Tensor, ...]
    histograms: Histograms


@dataclass(frozen=True)
class Calibrated:
    """Histograms by node name, and the images behind them; both empty for a recipe that does not calibrate.

    ``held_out`` is for a choice between programs; None where there is none to make.
    """

    histograms: Histograms = field(default_factory=dict)
    info: CalibrationInfo | None = None
    skipped: tuple[str, ...] = ()
    held_out: HeldOut | None = None


def calibrate(job: Job) -> Calibrated:
    """Show every calibration image to the float program; InputError when one cannot be used."""
    selection, plan = job.images.calibration, job.plan
    if not plan.recipe.calibrates or selection is None:
        return Calibrated()
    if names := plan.recipe.kept_tensors:
        find_tensors(job.subject.program.module().graph, names)  # refuses unknown ones before the images are shown
    skipped: list[str] = []
    chooses = plan.options.min_sqnr is not None
    apart = _held_out(selection, plan.options.seed) if chooses else ()
    rest = tuple(item for item in selection.items if item not in apart)
    histograms, _ = _gather(job, replace(selection, items=rest), skipped)
    held_out = None
    if chooses:
        more, images = _gather(job, replace(selection, items=apart), skipped, keep=True)
        held_out = HeldOut(images, histograms)
        histograms = {name: merged([found, more[name]]) for name, found in histograms.items()}
    kept = tuple(item for item in selection.items if item.name not in skipped)
    sha256 = calibration_hash(selection.images, kept, selection.preprocessing, plan.options.seed)
    info = CalibrationInfo(source=selection.source, sha256=sha256, seed=plan.options.seed, samples=len(kept))
    return Calibrated(histograms, info, tuple(skipped), held_out)


def _held_out(selection: Selection, seed: int) -> tuple[ImageItem, ...]:
    """A share of the images, drawn over the classes. InputError when there are too few to set any apart."""
    count = min(HELD_OUT, len(selection.items) // _HELD_OUT_SHARE)
    if count == 0:
        least = f"choosing what stays float takes {_HELD_OUT_SHARE} calibration images or more"
        raise InputError(f"{selection.source}: {least}, and there are {len(selection.items)}")
    return limited(selection.items, count, seed)


def _gather(
    job: Job, selection: Selection, skipped: list[str], *, keep: bool = False
) -> tuple[Histograms, tuple[Tensor, ...]]:
    """The histograms of the images of ``selection``, and the images if they are to be kept."""
    kept: list[Tensor] = []

    def inputs() -> Iterator[Tensor]:
        for batch in selection.batches(job.progress, "calibrate"):
            skipped.extend(name for name, _ in batch.skipped)
            found = torch.from_numpy(batch.inputs)
            kept.extend(found.split(1) if keep else ())
            yield found

    try:
        return gather(job.subject.program, inputs()), tuple(kept)
    except ValueError as error:
        raise InputError(f"{selection.source}: {error}") from None
