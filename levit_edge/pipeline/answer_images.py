"""One pass over the images: each is decoded once and goes to everybody who answers it in turn.

Nothing is kept but sums and, of the images that everybody is compared on, at most one device's load at a time: memory
does not grow with the number of images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration import Batch
from levit_edge.metrics.accuracy import Accuracy, AccuracyMeter
from levit_edge.metrics.agreement import Agreement, AgreementMeter, Participant
from levit_edge.metrics.closeness import ClosenessMeter
from levit_edge.report.schema import DeviceFigures
from targets.target import BatchRunner, Image, Logits, Runner, run_batch

Answer = Callable[[Image], Logits] | BatchRunner  # float32 [1, C, H, W] -> [1, classes], or .batch for many at once

PARALLEL = 2  # who answers at the same time, each on one thread; accuracy is not timed


@dataclass(frozen=True)
class Local:
    """A bundle on this machine: its built model, and the quantized program that the model was lowered from."""

    target: str
    runner: Runner
    participant: Participant
    program: Answer
    program_participant: Participant


@dataclass(frozen=True)
class Remote:
    """The same bundle on another device."""

    target: str
    runner: Runner
    participant: Participant


@dataclass(frozen=True)
class Cast:
    """Everybody who answers: the float model, the bundles here, and those of them that run on another device too.

    ``load_images`` is how many images that device takes at a time without waste.
    """

    floats: Answer
    floats_participant: Participant
    locals: tuple[Local, ...]
    remotes: tuple[Remote, ...] = ()
    load_images: int = 1

    @property
    def participants(self) -> tuple[Participant, ...]:
        """In the order of the agreement table: float, then program and file of each target, then the device."""
        pairs = [each for local in self.locals for each in (local.program_participant, local.participant)]
        return (self.floats_participant, *pairs, *(remote.participant for remote in self.remotes))


@dataclass(frozen=True)
class Answers:
    """What came out: accuracy and figures on the device by target, the table, and the images that were left out."""

    accuracy: Mapping[str, Accuracy]
    on_device: Mapping[str, DeviceFigures]
    agreement: Agreement
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class _Answered:
    """Images of one batch with the answers so far: ``found`` are the float model's and then each local model's."""

    inputs: Image
    class_index: NDArray[np.int64]
    found: tuple[Logits, ...]

    def at(self, rows: Sequence[int]) -> _Answered:
        """Only those images."""
        index = np.array(rows, dtype=np.int64)
        return _Answered(self.inputs[index], self.class_index[index], tuple(logits[index] for logits in self.found))


def _joined(parts: Sequence[_Answered]) -> _Answered:
    found = zip(*(part.found for part in parts), strict=True)
    return _Answered(
        np.concatenate([part.inputs for part in parts]),
        np.concatenate([part.class_index for part in parts]),
        tuple(np.concatenate(logits) for logits in found),
    )


def answer_all(batches: Iterable[Batch], cast: Cast, source: str, compared: frozenset[str] | None) -> Answers:
    """Show every batch to the float model and to every bundle; those named ``compared`` (None: all) to the rest too.

    ``source`` names the images in the table. Raises LevitEdgeError when somebody gives NaN or infinity.
    """
    accuracy = {local.target: AccuracyMeter() for local in cast.locals}
    comparison, waiting, skipped = _Comparison(cast), list[_Answered](), list[str]()
    with ThreadPoolExecutor(PARALLEL) as pool:
        ask = _asker(pool)
        for batch in batches:
            skipped += [name for name, _ in batch.skipped]
            answered = _Answered(
                batch.inputs,
                batch.class_index,
                ask([cast.floats, *(local.runner for local in cast.locals)], batch.inputs),
            )
            for local, logits in zip(cast.locals, answered.found[1:], strict=True):
                accuracy[local.target].update(answered.found[0], logits, batch.class_index)
            rows = [row for row, name in enumerate(batch.names) if compared is None or name in compared]
            if rows:
                waiting.append(answered.at(rows))
            if sum(len(each.inputs) for each in waiting) >= cast.load_images:
                comparison.add(_joined(waiting), ask)
                waiting = []
        if waiting:
            comparison.add(_joined(waiting), ask)
    return Answers(
        {
            local.target: accuracy[local.target].result(runtime=local.runner.runtime, executed=local.runner.executed)
            for local in cast.locals
        },
        comparison.on_device(),
        comparison.table.result(source),
        tuple(skipped),
    )


Ask = Callable[[Sequence[Answer], Image], tuple[Logits, ...]]


def _asker(pool: ThreadPoolExecutor) -> Ask:
    def ask(everybody: Sequence[Answer], images: Image) -> tuple[Logits, ...]:
        asked = [pool.submit(run_batch, each, images) for each in everybody]
        return tuple(future.result() for future in asked)

    return ask


class _Comparison:
    """Sums over the images that everybody answers."""

    def __init__(self, cast: Cast) -> None:
        self.table = AgreementMeter(cast.participants)
        self._cast = cast
        self._accuracy = {remote.target: AccuracyMeter() for remote in cast.remotes}
        self._closeness = {remote.target: ClosenessMeter() for remote in cast.remotes}

    def add(self, answered: _Answered, ask: Ask) -> None:
        """Ask the programs and the device about these images, too."""
        floats, *here = answered.found
        programs = ask([local.program for local in self._cast.locals], answered.inputs)
        there = [run_batch(remote.runner, answered.inputs) for remote in self._cast.remotes]
        pairs = [logits for pair in zip(programs, here, strict=True) for logits in pair]
        self.table.update([floats, *pairs, *there])
        by_target = dict(zip((local.target for local in self._cast.locals), here, strict=True))
        for remote, logits in zip(self._cast.remotes, there, strict=True):
            self._accuracy[remote.target].update(floats, logits, answered.class_index)
            self._closeness[remote.target].update(by_target[remote.target], logits)

    def on_device(self) -> dict[str, DeviceFigures]:
        """Accuracy on the device, and how close it comes to this machine, by target."""
        runtimes = {local.target: local.runner.runtime for local in self._cast.locals}
        return {
            remote.target: DeviceFigures(
                accuracy=self._accuracy[remote.target].result(runtime=remote.runner.runtime, executed=True),
                local=self._closeness[remote.target].result(runtimes[remote.target]),
            )
            for remote in self._cast.remotes
        }
