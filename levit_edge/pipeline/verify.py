"""Does a loaded model do what it should, and how fast: comparisons that the build and the other verbs share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from calibration import Batch
from levit_edge.errors import LevitEdgeError
from levit_edge.metrics.accuracy import Accuracy, AccuracyMeter
from levit_edge.metrics.latency import measure, paired_speedup
from levit_edge.metrics.sqnr import sqnr_db
from levit_edge.report.schema import Latency
from targets.target import Image, Logits, Runner

Function = Callable[[Image], Logits]

WARMUP_ROUNDS = 10
PARALLEL_RUNNERS = 2  # each on one thread; accuracy is not timed
# Float32 gives 100 dB and more on trained weights, 56 dB on a random LeViT-384; a missing bias costs far more.
FLOAT_MATCH_DB = 40.0
# How much closer to the float model a program may be than the file it was lowered to.
CLOSENESS_DB = 1.0


@runtime_checkable
class BatchRunner(Protocol):
    """A runner that takes many images at once: float32 [B, C, H, W] -> [B, classes]."""

    def batch(self, images: Image) -> Logits: ...


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Keep torch to one thread for the block: single images gain little from more, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_each(function: Function | BatchRunner, images: Image) -> Logits:
    """``function`` on every image by itself, or on all of them when it knows batches: [B, C, H, W] -> [B, classes]."""
    if isinstance(function, BatchRunner):
        return function.batch(images)
    return np.concatenate([function(images[index : index + 1]) for index in range(len(images))])


def check_match(name: str, lowered: Logits, program: Logits, limit_db: float) -> None:
    """Raise LevitEdgeError when the model file does not compute what its program does."""
    found = sqnr_db(program, lowered)
    if found < limit_db:
        raise LevitEdgeError(
            f"{name}: the model file differs from the program it was made from "
            f"(SQNR {found:.1f} dB, at least {limit_db:.1f} dB expected); nothing was written"
        )


def check_integer_match(name: str, lowered: Logits, program: Logits, floats: Logits, limit_db: float) -> None:
    """The same for integer programs, whose runtimes may round a tie the other way.

    In a network that amplifies such differences (random weights do) the file may end far from the program; then it
    must be as close to the float model as the program is.
    """
    if sqnr_db(floats, lowered) < sqnr_db(floats, program) - CLOSENESS_DB:
        check_match(name, lowered, program, limit_db)


def accuracies(
    batches: Iterable[Batch], reference: Callable[[Image], Logits], runners: Mapping[str, Runner]
) -> dict[str, Accuracy]:
    """Accuracy of every runner against ``reference`` ([B, C, H, W] -> [B, classes]), in one pass over the images."""
    meters = {name: AccuracyMeter() for name in runners}
    with ThreadPoolExecutor(PARALLEL_RUNNERS) as pool:
        for batch in batches:
            expected = pool.submit(reference, batch.inputs)
            found = {name: pool.submit(run_each, runner, batch.inputs) for name, runner in runners.items()}
            for name, logits in found.items():
                meters[name].update(expected.result(), logits.result(), batch.class_index)
    return {
        name: meters[name].result(runtime=runner.runtime, executed=runner.executed) for name, runner in runners.items()
    }


def paired_latency(reference: Runner, runner: Runner, image: Image, *, threads: int, runs: int) -> Latency:
    """Times of both on one image, interleaved."""
    times = measure(
        {"reference": lambda: reference(image), "model": lambda: runner(image)}, runs=runs, warmup=WARMUP_ROUNDS
    )
    return Latency.of(
        runtime=runner.runtime,
        threads=threads,
        fp32=times["reference"],
        int8=times["model"],
        speedup=paired_speedup(times["reference"], times["model"]),
    )
