"""Accuracy and paired latency of every entry, on the same images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.entry import Entry
from benchmarks.stock import Published
from calibration import Batch
from levit_edge.metrics.accuracy import Accuracy, AccuracyMeter
from levit_edge.metrics.latency import LatencyStats, Speedup, measure, paired_speedup
from levit_edge.metrics.measurement_defaults import WARMUP_ROUNDS
from targets.runner import Image, run_batch

OURS = ("ours-onnxruntime-int8", "ours-executorch-int8")

Squares = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One entry and what was measured. ``speed_against`` holds how many times faster it is than each named entry."""

    entry: Entry
    accuracy: Accuracy
    latency: LatencyStats
    speed_against: dict[str, Speedup]


@dataclass(frozen=True)
class Compared:
    """The figures of one entry, and for each image the squared logits of the float model and the squared error, [n]."""

    accuracy: Accuracy
    signal: Squares
    noise: Squares


def float_reference(entry: Entry) -> str:
    """Name of the float model of the same runtime, exported from the published model."""
    return f"stock-{entry.family}-float32"


def compare(model: Published, batches: Iterable[Batch], entries: Sequence[Entry]) -> dict[str, Compared]:
    """Every entry against the published float model in torch; one entry after the other on each batch."""
    meters = {entry.name: AccuracyMeter() for entry in entries}
    signal, noise = [], {entry.name: list[Squares]() for entry in entries}
    for batch in batches:
        with torch.no_grad():
            expected = model(torch.from_numpy(batch.inputs)).numpy()  # [B, classes]
        signal.append(_squares(expected))
        for entry in entries:
            logits = run_batch(entry.runner, batch.inputs)
            meters[entry.name].update(expected, logits, batch.class_index)
            noise[entry.name].append(_squares(logits.astype(np.float64) - expected))
    return {
        entry.name: Compared(
            meters[entry.name].result(runtime=entry.runner.runtime, executed=entry.runner.executed),
            np.concatenate(signal),
            np.concatenate(noise[entry.name]),
        )
        for entry in entries
    }


def _squares(values: NDArray[np.floating]) -> Squares:
    """The sum of squares of each row: [B, K] -> [B]."""
    found: Squares = np.square(values.astype(np.float64)).sum(axis=1)
    return found


def latencies(entries: Sequence[Entry], image: Image, runs: int) -> dict[str, LatencyStats]:
    """Every entry once in each of ``runs`` rounds, so that each ratio compares neighbours in time."""
    runners = {entry.name: lambda entry=entry: entry.runner(image) for entry in entries}
    return measure(runners, runs=runs, warmup=WARMUP_ROUNDS)


def rows(entries: Sequence[Entry], accuracy: dict[str, Accuracy], latency: dict[str, LatencyStats]) -> list[Row]:
    """One row for each entry, with its speed against its float reference and against both int8 models of ours."""
    found = []
    for entry in entries:
        against = {
            name: paired_speedup(latency[name], latency[entry.name])
            for name in (float_reference(entry), *OURS)
            if name in latency and name != entry.name
        }
        found.append(Row(entry, accuracy[entry.name], latency[entry.name], against))
    return found
