"""A toy device: the runtimes of this machine, with counts, times and distorted answers that a test chooses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from levit_edge.devices import Count, Device, Kernel, Timing
from levit_edge.devices.registry import KINDS, DeviceKind
from levit_edge.errors import InputError, LevitEdgeError, MissingComponentError
from levit_edge.metrics.latency import LatencyStats
from levit_edge.progress import Progress
from levit_edge.report.answers import DoctorRow
from targets.registry import TARGETS
from targets.runner import Image, Logits

NAME = "toy"
RUNS_ON = ("executorch", "onnx")
MAX_RUNS = 1000
FLOAT_COUNTS, BUILT_COUNTS = (2000, 2010, 1990), (1000, 1000, 1004)
FLOAT_MS, BUILT_MS = 3.0, 1.5


def same(logits: Logits) -> Logits:
    return logits


@dataclass
class ToyDevice:
    """Answers what this machine's runtime does, after ``distort``; by default it counts and does not time.

    ``asked`` keeps what it was asked: (target, model file, images or runs). An inference of the float file is
    FLOAT_COUNTS instructions, over and over, and takes FLOAT_MS; one of the built file is BUILT_COUNTS and BUILT_MS.
    ``missing`` is what has to be installed first.
    """

    name: str = NAME
    architecture: str = "arm64"
    executes: bool = True
    times: bool = False
    counts: bool = True
    batch_images: int = 256
    distort: Callable[[Logits], Logits] = same
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    missing: MissingComponentError | None = None

    def runtime(self, target: str) -> str:
        if target not in RUNS_ON:
            raise InputError(f"{self.name} does not run {target} bundles; it runs: {', '.join(RUNS_ON)}")
        return f"{target}-runtime 1.2 on {self.name}"

    def check(self) -> None:
        if self.missing is not None:
            raise self.missing

    def check_runs(self, threads: int, runs: int) -> None:
        if threads != 1:
            raise InputError(f"threads is {threads}; {self.name} counts the instructions of 1 thread")
        if not 1 <= runs <= MAX_RUNS:
            raise InputError(f"runs is {runs}; {self.name} counts 1 to {MAX_RUNS} inferences")

    def load(self, target: str, model: Path, threads: int, progress: Progress) -> ToyRunner:  # noqa: ARG002
        assert self.executes
        return ToyRunner(self, target, model, self.runtime(target), progress)

    def time(self, target: str, reference: Path, model: Path, image: Image, threads: int, runs: int) -> Timing | None:  # noqa: ARG002
        assert self.times and image.shape[0] == 1 and reference.exists()
        self.asked.append((target, model.name, runs))
        float_ms, built_ms = ([milliseconds] * runs for milliseconds in (FLOAT_MS, BUILT_MS))
        return Timing(self.runtime(target), LatencyStats.of(float_ms), LatencyStats.of(built_ms))

    def count(self, target: str, models: Sequence[Path], image: Image, runs: int) -> tuple[Count, ...]:
        assert self.counts
        return tuple(self._count(target, model, image, runs) for model in models)

    def _count(self, target: str, model: Path, image: Image, runs: int) -> Count:
        self.asked.append((target, model.name, runs))
        assert image.shape[0] == 1 and model.exists()
        counts = FLOAT_COUNTS if "fp32" in model.name else BUILT_COUNTS
        instructions = tuple(counts[run % len(counts)] for run in range(runs))
        kernels = (Kernel("libtoy.so", "gemm", "sdot", 700), Kernel("libc.so.6", "memcpy", "ldp", 100))
        return Count(instructions, kernels)


@dataclass
class ToyRunner:
    """A model file on the toy. float32 [1, C, H, W] -> float32 [1, classes], or many at once."""

    device: ToyDevice
    target: str
    model: Path
    runtime: str
    progress: Progress
    executed: bool = True

    def __call__(self, image: Image) -> Logits:
        return self.batch(image)

    def batch(self, images: Image) -> Logits:
        self.device.asked.append((self.target, self.model.name, len(images)))
        runner = TARGETS[self.target].backend.load(self.model, 1)
        answers = [runner(images[i : i + 1]) for i in self.progress.track(range(len(images)), "toy", len(images))]
        return self.device.distort(np.concatenate(answers))


def plug_in(patch: pytest.MonkeyPatch, device: Device, failure: LevitEdgeError | None = None) -> None:
    """Register ``device`` under its name, one more row beside those there are; opening it raises ``failure``."""

    def open_it(model: str) -> Device:
        if failure is not None:
            raise failure
        return device

    row = DoctorRow(name=device.name, kind="device", executes="yes", note="a device for tests")
    kind = DeviceKind(name=device.name, row=lambda: row, help="a toy", open=open_it, valid=lambda: (device.name,))
    patch.setitem(KINDS, device.name, kind)


def turned(share: float) -> Callable[[Logits], Logits]:
    """Reverse the sign of the logits of that share of the images, so that another class wins."""

    def distort(logits: Logits) -> Logits:
        wrong = logits.copy()
        count = round(share * len(wrong))
        wrong[:count] = -wrong[:count]
        return wrong

    return distort
