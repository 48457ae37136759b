"""What a bundle says of itself, once it is verified, and what the report says in the end."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from calibration import normalize
from levit_edge.bundle.files import MANIFEST_NAME, size_bytes
from levit_edge.bundle.golden import write_golden
from levit_edge.bundle.manifest import Manifest, RecipeInfo, TensorSpec, write_manifest
from levit_edge.gates.check_report import with_verdicts
from levit_edge.pipeline.calibrate import Calibrated
from levit_edge.pipeline.departure_warnings import departures
from levit_edge.pipeline.load import Subject
from levit_edge.pipeline.lower import Lowered
from levit_edge.pipeline.measure import Measured
from levit_edge.pipeline.plan import Job
from levit_edge.pipeline.verify import Examples
from levit_edge.report.schema import Calibration, Delegation, Host, Model, Report, TargetReport
from levit_edge.wording import listed
from quantize.float_tensors import float_tensors
from targets.program.parameters import stored_ranges
from targets.registry import TARGETS
from targets.runner import run_batch
from targets.target import INPUT_NAME, OUTPUT_NAME

GOLDEN_IMAGES = 4
NUMERICS_ONLY = "no image was left to evaluate on: only the numerics were verified, not the accuracy"


def describe_bundle(job: Job, lowered: Lowered, calibrated: Calibrated, shown: Examples) -> None:
    """Add the golden values and the manifest: the bundle is complete after this."""
    golden = slice(0, GOLDEN_IMAGES)
    inputs = shown.batch.inputs[golden]
    write_golden(
        lowered.folder,
        pixels=shown.batch.pixels[golden],
        inputs=inputs,
        logits=run_batch(lowered.runner, inputs),
        names=shown.batch.names[golden],
        runtime=lowered.runner.runtime,
    )
    write_manifest(lowered.folder, _manifest(job, lowered, calibrated))


def _manifest(job: Job, lowered: Lowered, calibrated: Calibrated) -> Manifest:
    subject, target, recipe = job.subject, lowered.target, lowered.recipe
    image = TensorSpec(
        name=INPUT_NAME,
        dtype="float32",
        shape=(1, subject.num_channels, subject.image_size, subject.image_size),
        layout="NCHW",
        range=_input_range(subject),
    )
    logits = TensorSpec(name=OUTPUT_NAME, dtype="float32", shape=(1, len(subject.labels)), layout="NC")
    return Manifest(
        target=target.name,
        model=subject.info,
        labels=subject.labels,
        preprocessing=subject.preprocessing,
        inputs=(image,),
        outputs=(logits,),
        recipe=RecipeInfo(name=recipe.name, settings=recipe.settings()),
        calibration=calibrated.info,
        tool_versions=target.versions(),
        model_file=target.model_file,
        reference_file=target.reference_file,
        options=dict(target.options),
    )


def _input_range(subject: Subject) -> tuple[float, float]:
    """What the preprocessing makes of the darkest and the brightest pixel, over all channels."""
    extremes = np.array([0, 255], dtype=np.uint8)
    pixels = np.repeat(extremes[:, None], subject.num_channels, axis=1)[:, None, None, :]  # [2, 1, 1, C]
    values = normalize(pixels, subject.preprocessing)
    return float(values.min()), float(values.max())


def make_report(job: Job, built: Sequence[Lowered], calibrated: Calibrated, measured: Measured) -> Report:
    """The whole report, with the verdict of every gate."""
    subject, selection = job.subject, job.images.calibration
    calibration = None
    if selection is not None and calibrated.info is not None:
        calibration = Calibration(**calibrated.info.model_dump(), skipped_images=calibrated.skipped)
    report = Report(
        host=_host(),
        model=Model(
            variant=subject.info.variant,
            source=subject.info.source,
            sha256=subject.info.sha256,
            image_size=subject.image_size,
            num_labels=len(subject.labels),
            parameters=subject.info.parameters,
            random_weights=subject.info.random_weights,
        ),
        calibration=calibration,
        evaluation=measured.evaluation,
        targets={lowered.target.name: _entry(job, lowered, measured) for lowered in built},
        agreement=measured.agreement,
        undecided=job.plan.undecided,
        warnings=tuple(_warnings(job, measured)),
    )
    return with_verdicts(report, job.plan.limits)


def _entry(job: Job, lowered: Lowered, measured: Measured) -> TargetReport:
    target, recipe, device = lowered.target, lowered.recipe, job.plan.device
    contents = target.backend.contents(lowered.model_path)
    ranges = stored_ranges(lowered.program)
    size, reference_size = size_bytes(lowered.model_path), size_bytes(lowered.reference_path)
    there = measured.on_device.get(target.name)
    return TargetReport(
        bundle=target.name,
        model_file=target.model_file,
        recipe=recipe.name,
        recipe_base=recipe.base,
        recipe_settings=recipe.settings(),
        mixed_precision=lowered.chosen.search,
        size_bytes=size,
        fp32_size_bytes=reference_size,
        size_ratio=size / reference_size,
        accuracy=measured.accuracy.get(target.name),
        devices={} if device is None or there is None else {device.name: there},
        latency=measured.latency.get(target.name),
        delegation=Delegation(
            delegates=contents.delegates,
            int8_ops=contents.count("int8"),
            float_ops=contents.count("float"),
            fallback_ops=contents.fallback_ops,
            operators={f"{row.name} {row.precision} {row.placement}": row.count for row in contents.operators},
        ),
        program_match=lowered.program_match,
        ranges=ranges,
        float_tensors=float_tensors(job.subject.program, recipe, ranges) if recipe.calibrates else {},
        tool_versions=target.versions(),
        warnings=_simulation_warning(lowered),
    )


def _simulation_warning(lowered: Lowered) -> tuple[str, ...]:
    target, runner = lowered.target, lowered.runner
    if runner.executed:
        return ()
    half = " with float16 rounding" if lowered.recipe.half else ""
    text = (
        f"this machine cannot execute it: the figures are those of the shipped {target.model_file}, interpreted "
        f"operator by operator{half} ({runner.runtime}), whose time is no latency; "
        f"`levit-edge eval` on {target.executing_systems} executes it"
    )
    return (text,)


def _warnings(job: Job, measured: Measured) -> Iterator[str]:
    evaluation, options = measured.evaluation, job.plan.options
    if evaluation is None:
        yield NUMERICS_ONLY
    elif evaluation.skipped_images:
        yield f"{evaluation.source}: could not be read and left out: {listed(evaluation.skipped_images, 8)}"
    if any(accuracy.n_labelled == 0 for accuracy in measured.accuracy.values()):
        yield "no evaluation image has a class that the model knows: agreement was measured, top-1 was not"
    for name in TARGETS:
        if name not in options.targets and (options.out / name / MANIFEST_NAME).is_file():
            yield f"{name} is from an earlier build and is not in this report"
    yield from departures(measured.agreement, measured.compared, random_weights=job.subject.info.random_weights)


def _host() -> Host:
    return Host(
        system=platform.system(),
        machine=platform.machine(),
        processor=_processor(),
        cpu_count=os.cpu_count() or 1,
        python=platform.python_version(),
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
