"""One pass over the images: each batch is decoded once and shown to the float model and to every bundle.

On some of the images the quantized programs and another device answer too, so that all can be compared. Nothing is kept
but sums, three bytes for each answer, and, of the compared images, at most as many as the device takes at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration import Batch
from levit_edge.errors import InputError
from levit_edge.metrics.accuracy import Accuracy, AccuracyMeter
from levit_edge.metrics.agreement import Agreement, AgreementMeter, Participant
from levit_edge.metrics.closeness import ClosenessMeter
from levit_edge.report.schema import DeviceFigures
from targets.runner import BatchRunner, Image, Logits, Runner, run_batch

Answer = Callable[[Image], Logits] | BatchRunner  # float32 [1, C, H, W] -> [1, classes], or .batch for many at once

PARALLEL = 2  # models that answer at the same time, each on one thread; accuracy is not timed


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
    """All that compute the model: the float model, the bundles here, and those of them that run on another device too.

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
    """What came out: accuracy and figures on the device by target, and the table."""

    accuracy: Mapping[str, Accuracy]
    on_device: Mapping[str, DeviceFigures]
    agreement: Agreement


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
    """Show every batch to the float model and to every bundle.

    The images whose names are in ``compared``, or all of them where that is None, are also shown to the quantized
    programs and to the device. ``source`` names the images in the table. Raises LevitEdgeError when a model gives NaN
    or infinity, and InputError when none of the ``compared`` images could be read.
    """
    accuracy = {local.target: AccuracyMeter() for local in cast.locals}
    comparison, waiting = _Comparison(cast), list[_Answered]()
    with ThreadPoolExecutor(PARALLEL) as pool:
        for batch in batches:
            answered = _Answered(
                batch.inputs,
                batch.class_index,
                ask(pool, [cast.floats, *(local.runner for local in cast.locals)], batch.inputs),
            )
            for local, logits in zip(cast.locals, answered.found[1:], strict=True):
                accuracy[local.target].update(answered.found[0], logits, batch.class_index)
            rows = [row for row, name in enumerate(batch.names) if compared is None or name in compared]
            if rows:
                waiting.append(answered.at(rows))
            if sum(len(each.inputs) for each in waiting) >= cast.load_images:
                comparison.add(_joined(waiting), pool)
                waiting = []
        if waiting:
            comparison.add(_joined(waiting), pool)
    if not comparison.images:
        raise InputError(f"{source}: none of the images to compare on could be read")
    return Answers(
        {
            local.target: accuracy[local.target].result(runtime=local.runner.runtime, executed=local.runner.executed)
            for local in cast.locals
        },
        comparison.on_device(),
        comparison.table.result(source),
    )


def ask(pool: ThreadPoolExecutor, models: Sequence[Answer], images: Image) -> tuple[Logits, ...]:
    """What each of ``models`` answers to ``images`` [B, C, H, W]: its logits [B, classes], in the same order."""
    asked = [pool.submit(run_batch, model, images) for model in models]
    return tuple(future.result() for future in asked)


class _Comparison:
    """Sums over the images that all are compared on; ``images`` is how many there were."""

    def __init__(self, cast: Cast) -> None:
        self.table, self.images = AgreementMeter(cast.participants), 0
        self._cast = cast
        self._accuracy = {remote.target: AccuracyMeter() for remote in cast.remotes}
        self._closeness = {remote.target: ClosenessMeter() for remote in cast.remotes}

    def add(self, answered: _Answered, pool: ThreadPoolExecutor) -> None:
        """Show these images to the programs and to the device as well, and add all answers."""
        self.images += len(answered.inputs)
        floats, *here = answered.found
        programs = ask(pool, [local.program for local in self._cast.locals], answered.inputs)
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
                accuracy=self._accuracy[remote.target].result(
                    runtime=remote.runner.runtime, executed=remote.runner.executed
                ),
                local=self._closeness[remote.target].result(runtimes[remote.target]),
            )
            for remote in self._cast.remotes
        }
