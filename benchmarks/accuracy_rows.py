"""What one row of the comparison of accuracy says: the figures of an entry, how sure they are, and ours beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.entry import Entry, Family
from benchmarks.measure import Compared
from levit_edge.gates.intervals import BOTH_95, Interval, paired_drop, share, sqnr
from levit_edge.metrics.accuracy import Accuracy
from levit_edge.metrics.sqnr import decibels

# OpenVINO has no target here; its models come from an ONNX file, too.
OURS: dict[Family, str] = {
    "onnxruntime": "ours-onnxruntime-int8",
    "executorch": "ours-executorch-int8",
    "coreml": "ours-coreml-int8",
    "openvino": "ours-onnxruntime-int8",
}


@dataclass(frozen=True)
class Difference:
    """How much higher the SQNR of the entry ``ours`` is than a peer's, on the same images.

    ``bounds`` are those of the ratio of the two noises, image by image. ``apart``: the intervals of the two figures do
    not overlap.
    """

    ours: str
    better_db: float
    bounds: Interval
    apart: bool


@dataclass(frozen=True)
class AccuracyRow:
    """One entry with intervals of 95 % confidence. ``drop`` is None without labels, ``difference`` for ours."""

    entry: Entry
    accuracy: Accuracy
    drop: Interval | None
    agreement: Interval
    sqnr: Interval
    difference: Difference | None


def judge_all(entries: Sequence[Entry], compared: Mapping[str, Compared]) -> list[AccuracyRow]:
    """One row for each entry, in their order; those of OURS must be among them."""
    rows = []
    for entry in entries:
        found, ours = compared[entry.name], OURS[entry.family]
        accuracy = found.accuracy
        rows.append(
            AccuracyRow(
                entry=entry,
                accuracy=accuracy,
                drop=_drop(accuracy),
                agreement=share(round(accuracy.agreement_pct * accuracy.n / 100), accuracy.n, BOTH_95),
                sqnr=sqnr(found.signal, found.noise, BOTH_95),
                difference=None if entry.name == ours else difference(ours, compared[ours], found),
            )
        )
    return rows


def _drop(accuracy: Accuracy) -> Interval | None:
    if accuracy.top1_lost is None or accuracy.top1_gained is None:
        return None
    return paired_drop(accuracy.top1_lost, accuracy.top1_gained, accuracy.n_labelled, BOTH_95)


def difference(name: str, ours: Compared, peer: Compared) -> Difference:
    """``ours``, called ``name``, against ``peer``: both have the same signal, so the ratio of their noises is it."""
    own, other = sqnr(ours.signal, ours.noise, BOTH_95), sqnr(peer.signal, peer.noise, BOTH_95)
    return Difference(
        ours=name,
        better_db=decibels(float(peer.noise.sum()), float(ours.noise.sum())),
        bounds=sqnr(peer.noise, ours.noise, BOTH_95),
        apart=own.low > other.high or other.low > own.high,
    )
