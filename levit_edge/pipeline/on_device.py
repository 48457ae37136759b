"""Times and instructions of one bundle on a device, as a report has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from levit_edge.devices import Device, Timing
from levit_edge.metrics.instructions import Instructions
from levit_edge.metrics.latency import paired_speedup
from levit_edge.report.schema import Latency
from targets.runner import Image


@dataclass(frozen=True)
class BundleFiles:
    """The two model files of a bundle: the float reference and the built model."""

    target: str
    reference: Path
    model: Path


def time_on(device: Device, files: BundleFiles, image: Image, threads: int, runs: int) -> Latency | None:
    """Paired times of one image, float32 [1, C, H, W]; None where the target's own runtime does not run there."""
    timing = device.time(files.target, files.reference, files.model, image, threads, runs)
    return None if timing is None else latency_of(timing, threads)


def latency_of(timing: Timing, threads: int) -> Latency:
    """A paired measurement as a report has it, with the interval of its speedup."""
    return Latency.of(
        runtime=timing.runtime,
        threads=threads,
        fp32=timing.reference,
        int8=timing.model,
        speedup=paired_speedup(timing.reference, timing.model),
    )


def count_on(device: Device, files: BundleFiles, image: Image, runs: int) -> Instructions:
    """Instructions of ``runs`` inferences of one image, float32 [1, C, H, W], of both model files."""
    before, built = device.count(files.target, (files.reference, files.model), image, runs)
    return Instructions.of(
        device=device.name,
        runtime=device.runtime(files.target),
        fp32=before.instructions,
        built=built.instructions,
        kernels=((k.library, k.function, k.kind, k.instructions) for k in built.kernels),
    )
