"""``levit-edge build``: from a model and images to verified bundles and a report, or to nothing."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import torch

from levit_edge.bundle.files import size_bytes, write_text
from levit_edge.bundle.manifest import MANIFEST_NAME, CalibrationInfo
from levit_edge.bundle.publish import staged_outputs
from levit_edge.devices import Device, open_device
from levit_edge.errors import InputError
from levit_edge.families.weights import shorten
from levit_edge.gates.check import check
from levit_edge.gates.limits import limits_for, load_limits
from levit_edge.gates.whole_report import figures_of
from levit_edge.metrics.accuracy import Accuracy
from levit_edge.pipeline.images import NUMERICS, Images, open_images
from levit_edge.pipeline.load import Subject, load_subject
from levit_edge.pipeline.lower import Lowered, describe, lower_target
from levit_edge.pipeline.measure import Measured, measure
from levit_edge.pipeline.on_device import runtimes
from levit_edge.pipeline.options import BuildOptions
from levit_edge.pipeline.verify import one_torch_thread
from levit_edge.progress import QUIET, Progress
from levit_edge.report.markdown import render_markdown
from levit_edge.report.schema import Calibration, Delegation, Host, Model, Report, TargetReport
from quantize.flow import calibrate
from quantize.recipes import Recipe, load_recipe
from quantize.statistics import Histogram
from targets.registry import TARGETS, target

NUMERICS_ONLY = "no image was left to evaluate on: only the numerics were verified, not the accuracy"


def build(options: BuildOptions | None = None, progress: Progress = QUIET) -> Report:
    """Build, verify and publish every target of ``options``; the report is also in ``options.out``.

    Raises InputError for bad input, MissingComponentError for a device that needs something first, and LevitEdgeError
    for a model file that does not compute what it should; then ``options.out`` is left as it was. A failed gate raises
    nothing: the report says so.
    """
    options = options or BuildOptions()
    device = open_device(options.device)
    if device is not None:
        runtimes(device, options.targets)
        device.check_counting()
    recipe = load_recipe(options.recipe)
    changes = load_limits(options.thresholds, TARGETS) if options.thresholds else {}
    for name in options.targets:
        if name not in recipe.targets:
            raise InputError(f"recipe {recipe.name} is not for {name}; it is for: {', '.join(recipe.targets)}")
        recipe.scheme(target(name).scheme)
    with progress.step("load, fuse and trace the model"):
        subject = load_subject(options)
    with ExitStack() as stack:
        stack.enter_context(one_torch_thread())
        images = open_images(options, subject, recipe.calibrates, stack)
        staging = stack.enter_context(staged_outputs(options.out, bundles=options.targets))
        report = _build(options, recipe, subject, images, device, staging, progress)
        classes = len(subject.labels)
        gated = {
            name: entry.model_copy(
                update={
                    "gates": check(
                        figures_of(entry), limits_for(recipe.base, target(name).limits, changes.get(name)), classes
                    )
                }
            )
            for name, entry in report.targets.items()
        }
        report = report.model_copy(update={"targets": gated})
        write_text(staging / "report.json", report.to_json())
        write_text(staging / "report.md", render_markdown(report))
    return report


def _build(
    options: BuildOptions,
    recipe: Recipe,
    subject: Subject,
    images: Images,
    device: Device | None,
    staging: Path,
    progress: Progress,
) -> Report:
    histograms = _histograms(recipe, subject, images, progress)
    numerics = images.first(NUMERICS, subject)
    calibration = images.calibration_info() if recipe.calibrates else None
    built = []
    for name in options.targets:
        folder = staging / name
        lowered = lower_target(target(name), subject, recipe, histograms, numerics, folder, options.threads, progress)
        describe(lowered, subject, recipe, calibration, numerics)
        built.append(lowered)
    found = measure(options, subject, images, numerics, built, device, progress)
    return Report(
        host=_host(),
        model=_model(subject),
        calibration=_calibration(images, calibration),
        targets={lowered.target.name: _entry(lowered, recipe, found) for lowered in built},
        agreement=found.comparison.table,
        warnings=(*_warnings(options, images, found.accuracy), *found.comparison.warnings()),
    )


def _warnings(options: BuildOptions, images: Images, found: Mapping[str, Accuracy]) -> Iterator[str]:
    if images.evaluation is None:
        yield NUMERICS_ONLY
    elif images.evaluation.skipped:
        yield f"{images.evaluation.source}: could not be read and left out: {shorten(images.evaluation.skipped)}"
    if any(accuracy.n_labelled == 0 for accuracy in found.values()):
        yield "no evaluation image has a class that the model knows: agreement was measured, top-1 was not"
    for name in TARGETS:
        if name not in options.targets and (options.out / name / MANIFEST_NAME).is_file():
            yield f"{name} is from an earlier build and is not in this report"


def _histograms(recipe: Recipe, subject: Subject, images: Images, progress: Progress) -> Mapping[str, Histogram]:
    if not recipe.calibrates or images.calibration is None:
        return {}
    batches = images.calibration.batches(progress, "calibrate")
    try:
        return calibrate(subject.program, (torch.from_numpy(batch.inputs) for batch in batches))
    except ValueError as error:
        raise InputError(f"{images.calibration.source}: {error}") from None


def _entry(lowered: Lowered, recipe: Recipe, found: Measured) -> TargetReport:
    chosen = lowered.target
    contents = chosen.contents(lowered.model_path)
    size, reference_size = size_bytes(lowered.model_path), size_bytes(lowered.reference_path)
    return TargetReport(
        bundle=chosen.name,
        model_file=chosen.model_file,
        recipe=recipe.name,
        recipe_base=recipe.base,
        size_bytes=size,
        fp32_size_bytes=reference_size,
        size_ratio=size / reference_size,
        accuracy=found.accuracy.get(chosen.name),
        devices=found.on_device.get(chosen.name, {}),
        latency=found.latency.get(chosen.name),
        delegation=Delegation(
            delegates=contents.delegates,
            int8_ops=contents.count("int8"),
            float_ops=contents.count("float"),
            fallback_ops=contents.fallback_ops,
        ),
        tool_versions=chosen.versions(),
        warnings=lowered.warnings,
    )


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


def _model(subject: Subject) -> Model:
    return Model(
        variant=subject.info.variant,
        source=subject.info.source,
        sha256=subject.info.sha256,
        image_size=subject.config.image_size,
        num_labels=len(subject.labels),
        parameters=subject.info.parameters,
    )


def _calibration(images: Images, info: CalibrationInfo | None) -> Calibration | None:
    if images.calibration is None or info is None:
        return None
    return Calibration(**info.model_dump(), skipped_images=tuple(images.calibration.skipped))
