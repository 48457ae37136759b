"""Step 6: what a build measures of its bundles: accuracy, agreement with one another, times, and instructions."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from levit_edge.devices import Device, runtimes
from levit_edge.devices.local import time_runners
from levit_edge.metrics.accuracy import Accuracy
from levit_edge.metrics.agreement import Agreement, Participant
from levit_edge.metrics.measurement_defaults import COUNTED_RUNS
from levit_edge.pipeline.answer_images import Answers, Cast, Local, Remote, answer_all
from levit_edge.pipeline.images import EvaluationPass
from levit_edge.pipeline.lower import Lowered
from levit_edge.pipeline.on_device import BundleFiles, count_on, latency_of, time_on
from levit_edge.pipeline.plan import Job
from levit_edge.pipeline.verify import Examples, run_floats
from levit_edge.report.schema import DeviceFigures, EvaluationSet, Latency
from targets.runner import Image

FLOAT = "torch float"


@dataclass(frozen=True)
class Measured:
    """Figures by target; those that were not measured are absent.

    ``on_device`` are those of the device that was asked for. ``compared`` is its part in the comparison, which is made
    without evaluation images, too. ``evaluation`` are the images behind ``accuracy``, None without any.
    """

    accuracy: Mapping[str, Accuracy]
    on_device: Mapping[str, DeviceFigures]
    compared: Mapping[str, DeviceFigures]
    latency: Mapping[str, Latency]
    agreement: Agreement
    evaluation: EvaluationSet | None


def measure(job: Job, built: Sequence[Lowered], shown: Examples) -> Measured:
    """Everything that can be measured here and on the device; LevitEdgeError when a model gives NaN or infinity."""
    device = job.plan.device
    names = {} if device is None else runtimes(device, [lowered.target.name for lowered in built])
    there = [lowered for lowered in built if lowered.target.name in names]
    answers, evaluation = _answers(job, built, there, shown)
    latency = {
        lowered.target.name: _time(job, lowered, shown.batch.inputs[:1]) for lowered in built if lowered.runner.executed
    }
    figures = {
        lowered.target.name: _figures(job, device, lowered, answers if evaluation else None, shown)
        for lowered in there
        if device is not None
    }
    measured = {name: found for name, found in figures.items() if found != DeviceFigures()}
    return Measured(
        accuracy=answers.accuracy if evaluation else {},
        on_device=measured,
        compared=answers.on_device,
        latency=latency,
        agreement=answers.agreement,
        evaluation=evaluation,
    )


def _answers(
    job: Job, built: Sequence[Lowered], there: Sequence[Lowered], shown: Examples
) -> tuple[Answers, EvaluationSet | None]:
    """What everybody answers to the evaluation images, and which they are; without any, to the few of ``shown``."""
    cast, selection = _cast(job, built, there), job.images.evaluation
    if selection is None:
        return answer_all([shown.batch], cast, shown.source, None), None
    images = EvaluationPass(selection)
    batches = images.batches(job.progress, "evaluate")
    return answer_all(batches, cast, selection.source, selection.compared()), images.result()


def _cast(job: Job, built: Sequence[Lowered], there: Sequence[Lowered]) -> Cast:
    device, torch_name = job.plan.device, f"torch {torch.__version__}"
    executing = there if device is not None and device.executes else ()
    return Cast(
        floats=_Floats(job.subject.fused),
        floats_participant=Participant(name=FLOAT, target=None, runtime=torch_name, executed=False),
        locals=tuple(_local(lowered, torch_name) for lowered in built),
        remotes=tuple(_remote(job, device, lowered) for lowered in executing if device is not None),
        load_images=device.batch_images if device is not None and executing else 1,
    )


class _Floats:
    """The float model in torch, for batches of any size."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.batch = partial(run_floats, model)


def _local(lowered: Lowered, torch_name: str) -> Local:
    name, runner = lowered.target.name, lowered.runner
    program = Participant(name=_program(name), target=name, runtime=torch_name, executed=False)
    place = platform.machine() if runner.executed else "reference"
    if runner.executed and lowered.target.executes_on:  # there is only one kind of place for it
        place = ""
    return Local(
        target=name,
        runner=runner,
        participant=Participant(
            name=f"{name} {place}".strip(),
            target=name,
            runtime=runner.runtime,
            executed=runner.executed,
            program=program.name,
        ),
        program=lowered.program_runner,
        program_participant=program,
    )


def _remote(job: Job, device: Device, lowered: Lowered) -> Remote:
    name = lowered.target.name
    runner = device.load(name, lowered.model_path, 1, job.progress)
    place = device.name if device.architecture == platform.machine() else device.architecture
    participant = Participant(
        name=f"{name} {place}",
        target=name,
        runtime=runner.runtime,
        executed=runner.executed,
        program=_program(name),
    )
    return Remote(name, runner, participant)


def _program(target: str) -> str:
    return f"{target} program"


def _time(job: Job, lowered: Lowered, image: Image) -> Latency:
    """Paired times on this machine."""
    options = job.plan.options
    with job.progress.step(f"{lowered.target.name}: time"):
        timing = time_runners(lowered.reference, lowered.runner, image, options.runs)
    return latency_of(timing, options.threads)


def _figures(job: Job, device: Device, lowered: Lowered, answers: Answers | None, shown: Examples) -> DeviceFigures:
    """What the device adds about one bundle, each part where it can."""
    name, image, options = lowered.target.name, shown.batch.inputs[:1], job.plan.options
    found = DeviceFigures() if answers is None else answers.on_device.get(name, DeviceFigures())
    files = BundleFiles(name, lowered.reference_path, lowered.model_path)
    latency = instructions = None
    if device.times:
        with job.progress.step(f"{name}: time on {device.name}"):
            latency = time_on(device, files, image, options.threads, options.runs)
    if device.counts:
        with job.progress.step(f"{name}: count instructions on {device.name}"):
            instructions = count_on(device, files, image, COUNTED_RUNS)
    return found.model_copy(update={"latency": latency, "instructions": instructions})
