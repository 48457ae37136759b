"""The same images to all that compute the model: the float program, the quantized ones, every runtime, every device."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch

from calibration import Batch
from levit_edge.gates.absolute import UNDECIDED, tolerated_events
from levit_edge.metrics.agreement import Agreement, Participant, agreement
from levit_edge.pipeline.load import Subject
from levit_edge.pipeline.lower import Lowered
from levit_edge.pipeline.on_device import DeviceMeter, DeviceRunner
from levit_edge.pipeline.verify import PARALLEL_RUNNERS, run_each
from levit_edge.progress import Progress
from levit_edge.report.schema import DeviceAccuracy
from targets.program.replay import run as run_program
from targets.target import Image, Logits

AGREEMENT_IMAGES = 200
SAME_ANSWERS_PCT = 99.0

FLOAT = "torch float"


@dataclass(frozen=True)
class Comparison:
    """The table, and the accuracy of each target's file on the device, by target.

    A participant departs from its program when more answers differ than chance explains (exact binomial test, 5 %) if
    one in a hundred does: a runtime that rounds some ties the other way, or Core ML's float16, does not.
    """

    table: Agreement
    on_device: Mapping[str, DeviceAccuracy] = field(default_factory=dict)

    def warnings(self) -> Iterator[str]:
        """One line for each participant that departs from its own quantized program."""
        if self.table.float_margin < UNDECIDED:  # near ties everywhere: any rounding turns answers over
            return
        n = self.table.n
        least_pct = 100 * (n - tolerated_events(n, 1 - SAME_ANSWERS_PCT / 100)) / n
        for participant, agreed_pct, sqnr_db in self.table.against_program():
            if agreed_pct < min(least_pct, SAME_ANSWERS_PCT):
                yield (
                    f"{participant.name} departs from its own quantized program: {_figures(agreed_pct, sqnr_db)} "
                    f"on {n} images; {self._advice(participant)}"
                )

    def _advice(self, participant: Participant) -> str:
        """Where to look on: ``--diverge`` runs the file on this host, so it does not show what a device does."""
        device = self.on_device.get(participant.target or "")
        if device is None or participant.runtime != device.accuracy.runtime:
            return f"`levit-edge inspect OUT/{participant.target} --diverge IMAGE` names the layer"
        here, agreed_pct, sqnr_db = next(
            entry
            for entry in self.table.against_program()
            if (entry[0].target, entry[0].runtime) == (participant.target, device.local.runtime)
        )
        return f"compare {here.name}, the same file on this host: {_figures(agreed_pct, sqnr_db)} with that program"


def _figures(agreed_pct: float, sqnr_db: float | None) -> str:
    return f"{agreed_pct:.2f} % agreement{'' if sqnr_db is None else f' and {sqnr_db:.1f} dB'}"


def compare(
    subject: Subject,
    built: Sequence[Lowered],
    runners: Mapping[str, DeviceRunner],
    images: tuple[str, Batch],
    progress: Progress,
) -> Comparison:
    """Everybody's answers to the same images, which are (source, batch). ``runners`` are those on a device, by target.

    Raises LevitEdgeError when somebody gives NaN or infinity.
    """
    source, batch = images
    everybody = [_float(subject), *(participant for lowered in built for participant in _local(lowered))]
    with ThreadPoolExecutor(PARALLEL_RUNNERS) as pool:
        answers = pool.map(lambda participant: participant[1](batch.inputs), everybody)
        found = list(progress.track(answers, "compare the targets", len(everybody)))
    table = [(participant, logits) for (participant, _), logits in zip(everybody, found, strict=True)]
    here = {p.target: logits for p, logits in table if p.program is not None}
    on_device = {}
    for lowered in built:
        if (runner := runners.get(lowered.target.name)) is not None:
            logits, meter = runner.batch(batch.inputs), DeviceMeter()
            meter.update(batch, found[0], here[runner.target], logits)
            table.append((_on_device(runner), logits))
            local_runtime = lowered.runner.runtime
            on_device[runner.target] = meter.result(runtime=runner.runtime, local_runtime=local_runtime)
    return Comparison(agreement(table, source), on_device)


Entrant = tuple[Participant, Callable[[Image], Logits]]


def _float(subject: Subject) -> Entrant:
    def logits(images: Image) -> Logits:
        with torch.no_grad():
            return run_each(lambda image: subject.fused(torch.from_numpy(image)).numpy(), images)

    return Participant(name=FLOAT, target=None, runtime=_torch(), executed=False), logits


def _local(lowered: Lowered) -> Iterator[Entrant]:
    """The quantized program of a target, and its model file in the runtime of this machine."""
    name, runner = lowered.target.name, lowered.runner
    program = Participant(name=_program(name), target=name, runtime=_torch(), executed=False)
    yield program, lambda images: run_program(lowered.program, images)
    file = Participant(
        name=_place(lowered), target=name, runtime=runner.runtime, executed=runner.executed, program=program.name
    )
    yield file, lambda images: run_each(runner, images)


def _on_device(runner: DeviceRunner) -> Participant:
    return Participant(
        name=f"{runner.target} arm64",
        target=runner.target,
        runtime=runner.runtime,
        executed=runner.executed,
        program=_program(runner.target),
    )


def _program(target: str) -> str:
    return f"{target} program"


def _place(lowered: Lowered) -> str:
    """A name for what computes the file here: Core ML has only itself, the others one kernel set per processor."""
    name = lowered.target.name
    if not lowered.runner.executed:
        return f"{name} reference"
    return name if sys.platform == "darwin" and name == "coreml" else f"{name} {platform.machine()}"


def _torch() -> str:
    return f"torch {torch.__version__}"
