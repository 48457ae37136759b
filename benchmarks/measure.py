"""Accuracy and paired latency of every entry, on the same images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from benchmarks.entry import Entry
from benchmarks.stock import Published
from calibration import Batch
from levit_edge.metrics.accuracy import Accuracy, AccuracyMeter
from levit_edge.metrics.latency import LatencyStats, Speedup, measure, paired_speedup
from levit_edge.metrics.measurement_defaults import WARMUP_ROUNDS
from targets.runner import Image, run_batch

OURS = ("ours-onnxruntime-int8", "ours-executorch-int8")


@dataclass(frozen=True)
class Row:
    """One entry and what was measured. ``speed_against`` holds how many times faster it is than each named entry."""

    entry: Entry
    accuracy: Accuracy
    latency: LatencyStats
    speed_against: dict[str, Speedup]


def float_reference(entry: Entry) -> str:
    """Name of the float model of the same runtime, exported from the published model."""
    return f"stock-{entry.family}-float32"


def accuracies(model: Published, batches: Iterable[Batch], entries: Sequence[Entry]) -> dict[str, Accuracy]:
    """Every entry against the published float model in torch; one entry at a time, one image at a time."""
    meters = {entry.name: AccuracyMeter() for entry in entries}
    for batch in batches:
        with torch.no_grad():
            expected = model(torch.from_numpy(batch.inputs)).numpy()  # [B, classes]
        for entry in entries:
            meters[entry.name].update(expected, run_batch(entry.runner, batch.inputs), batch.class_index)
    return {entry.name: meters[entry.name].result(runtime=entry.runner.runtime, executed=True) for entry in entries}


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
