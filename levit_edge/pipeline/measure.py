"""What a build measures of its bundles: accuracy, agreement with one another, times, and instructions on a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from calibration import Batch
from levit_edge.devices.device import Device
from levit_edge.metrics.accuracy import Accuracy
from levit_edge.metrics.instructions import Instructions
from levit_edge.pipeline.agreement import AGREEMENT_IMAGES, Comparison, compare
from levit_edge.pipeline.images import Images
from levit_edge.pipeline.load import Subject
from levit_edge.pipeline.lower import Lowered
from levit_edge.pipeline.on_device import COUNTED_RUNS, DeviceRunner, count_instructions, runtimes
from levit_edge.pipeline.options import BuildOptions
from levit_edge.pipeline.verify import accuracies, paired_latency
from levit_edge.progress import Progress
from levit_edge.report.schema import DeviceFigures, Latency
from targets.target import Image, Logits


@dataclass(frozen=True)
class Measured:
    """Figures by target; those that nobody measured are absent. ``on_device`` is by the name of the device, too."""

    accuracy: Mapping[str, Accuracy]
    on_device: Mapping[str, dict[str, DeviceFigures]]
    latency: Mapping[str, Latency]
    comparison: Comparison


def measure(
    options: BuildOptions,
    subject: Subject,
    images: Images,
    numerics: Batch,
    built: Sequence[Lowered],
    device: Device | None,
    progress: Progress,
) -> Measured:
    """Everything that can be measured here and on ``device``.

    Raises LevitEdgeError when somebody gives NaN or infinity.
    """
    accuracy = _accuracies(subject, images, built, progress)
    runners = {} if device is None else _runners(device, built, progress)
    comparison = compare(subject, built, runners, _compared(images, numerics), progress)
    evaluated = {} if images.evaluation is None else comparison.on_device
    on_device = {name: {runner.device.name: evaluated.get(name, DeviceFigures())} for name, runner in runners.items()}
    image = numerics.inputs[:1]
    latency = {}
    for lowered in built:
        name = lowered.target.name
        if lowered.runner.executed:
            latency[name] = _latency(options, lowered, image, progress)
        if name in runners:
            counted = _counted(lowered, runners[name], image, progress)
            on_device[name] = {
                device: found.model_copy(update={"instructions": counted}) for device, found in on_device[name].items()
            }
    return Measured(accuracy, on_device, latency, comparison)


def _accuracies(subject: Subject, images: Images, built: Sequence[Lowered], progress: Progress) -> dict[str, Accuracy]:
    if images.evaluation is None:
        return {}

    def reference(batch: Image) -> Logits:
        with torch.no_grad():
            logits: Logits = subject.fused(torch.from_numpy(batch)).numpy()
        return logits

    batches = images.evaluation.batches(progress, "evaluate")
    return accuracies(batches, reference, {lowered.target.name: lowered.runner for lowered in built})


def _compared(images: Images, numerics: Batch) -> tuple[str, Batch]:
    """(source, images) on which all that compute the model are compared."""
    if images.evaluation is not None:
        return images.evaluation.source, images.evaluation.spread(AGREEMENT_IMAGES)
    return ("noise" if images.calibration is None else images.calibration.source), numerics


def _runners(device: Device, built: Sequence[Lowered], progress: Progress) -> dict[str, DeviceRunner]:
    """One for each bundle that the device can run."""
    found = runtimes(device, [lowered.target.name for lowered in built])
    return {
        lowered.target.name: DeviceRunner(
            device, lowered.target.name, lowered.model_path, found[lowered.target.name], progress
        )
        for lowered in built
        if lowered.target.name in found
    }


def _latency(options: BuildOptions, lowered: Lowered, image: Image, progress: Progress) -> Latency:
    with progress.step(f"{lowered.target.name}: time"):
        return paired_latency(lowered.reference, lowered.runner, image, threads=options.threads, runs=options.runs)


def _counted(lowered: Lowered, runner: DeviceRunner, image: Image, progress: Progress) -> Instructions:
    name = lowered.target.name
    with progress.step(f"{name}: count instructions on {runner.device.name}"):
        return count_instructions(runner.device, name, lowered.reference_path, lowered.model_path, image, COUNTED_RUNS)
