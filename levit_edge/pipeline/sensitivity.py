"""``levit-edge sensitivity``: which stored tensors make the noise of a recipe."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch

from levit_edge.errors import InputError
from levit_edge.metrics.sqnr import finite_or_none
from levit_edge.pipeline.batched import batched_program
from levit_edge.pipeline.calibrate import calibrate
from levit_edge.pipeline.images import EvaluationPass, limited, open_images
from levit_edge.pipeline.load import load
from levit_edge.pipeline.options import SensitivityOptions
from levit_edge.pipeline.plan import Job, make_plan
from levit_edge.progress import QUIET, Progress
from levit_edge.report.sensitivity import SensitivityReport, TargetSensitivity, TensorNoise
from levit_edge.report.sensitivity_picture import check_picture, draw
from quantize.flow import prepare
from quantize.rescaling import with_parameters
from quantize.sensitivity import Sensitivity
from quantize.sensitivity import sensitivity as judge_tensors
from quantize.switched_program import StoredTensor, batch_size

FLOAT_BYTES = 4  # of a weight that stays float, instead of one byte


def sensitivity(options: SensitivityOptions, progress: Progress = QUIET) -> SensitivityReport:
    """Judge every tensor that the recipe stores as integers, for each target; with ``options.picture`` draw them.

    Nothing is lowered: torch computes the program that a build would lower. Raises InputError for bad input, a recipe
    that stores nothing as integers, and a picture whose folder does not exist.
    """
    if options.picture is not None:
        check_picture(options.picture)
    plan = make_plan(options.as_build)
    if plan.recipe.weights != "int8":
        raise InputError(f"recipe {plan.recipe.name} stores nothing as integers; valid: int8, w8a16, or one of theirs")
    with progress.step("load, fuse and trace the model"):
        subject = load(plan.options)
        program = batched_program(subject)
    with open_images(plan.options, subject, calibrates=plan.recipe.calibrates) as images:
        selection = images.evaluation or images.calibration
        if selection is None:
            raise InputError("there are no images to measure the noise on; name some with --eval DATA")
        selection = replace(selection, items=limited(selection.items, options.limit, options.seed))
        calibrated = calibrate(Job(plan, subject, images, Path(), progress))
        program = with_parameters(program, calibrated.parameters)
        targets = {}
        for target in plan.targets:
            prepared = prepare(program, plan.recipe, target.scheme, calibrated.histograms)
            seen = EvaluationPass(selection)
            batches = seen.batches(progress, f"{target.name}: measure each tensor", batch_size(prepared))
            targets[target.name] = _answer(judge_tensors(prepared, (torch.from_numpy(b.inputs) for b in batches)))
    answer = SensitivityReport(
        model=f"{subject.info.variant} ({subject.info.source})",
        recipe=plan.recipe.name,
        images=seen.result(),
        targets=targets,
    )
    if options.picture is not None:
        draw(answer, options.picture)
    return answer


def _answer(found: Sensitivity) -> TargetSensitivity:
    rows = [_row(tensor, found) for tensor in found.tensors]
    return TargetSensitivity(
        sqnr_db=finite_or_none(found.whole.sqnr_db),
        changed_pct=found.whole.changed_pct,
        tensors=tuple(sorted(rows, key=lambda row: math.inf if row.gain_db is None else row.gain_db, reverse=True)),
    )


def _row(tensor: StoredTensor, found: Sensitivity) -> TensorNoise:
    alone, without = found.alone[tensor.key], found.without[tensor.key]
    is_weight = tensor.kind == "weight"
    return TensorNoise(
        layer=tensor.key[0],
        tensor=tensor.key[1],
        kind=tensor.kind,
        alone_db=finite_or_none(alone.sqnr_db),
        alone_changed_pct=alone.changed_pct,
        without_db=finite_or_none(without.sqnr_db),
        without_changed_pct=without.changed_pct,
        gain_db=finite_or_none(without.sqnr_db - found.whole.sqnr_db),
        macs=tensor.macs,
        elements=tensor.elements,
        extra_bytes=(FLOAT_BYTES - 1) * tensor.elements if is_weight else 0,
    )
