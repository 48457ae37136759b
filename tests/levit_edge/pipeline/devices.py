"""A device without an emulator: this host's runtimes, with counts and distortions of the test's choosing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from levit_edge.devices import LOCAL, Count, Device, Kernel
from levit_edge.errors import InputError, MissingComponentError
from levit_edge.progress import Progress
from targets.registry import TARGETS
from targets.target import Image, Logits

NAME = "qemu-arm64:toy"
RUNS_ON = ("executorch", "onnx")
FLOAT_COUNTS, BUILT_COUNTS = (2000, 2010, 1990), (1000, 1000, 1004)


def same(logits: Logits) -> Logits:
    return logits


@dataclass
class ToyDevice:
    """Answers what this host's runtime does, after ``distort``; ``asked`` keeps the sizes of the batches it was given.

    An inference of the float file is FLOAT_COUNTS instructions and one of the built file BUILT_COUNTS, over and over.
    """

    name: str = NAME
    distort: Callable[[Logits], Logits] = same
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    cannot_count: MissingComponentError | None = None

    def runtime(self, target: str) -> str:
        if target not in RUNS_ON:
            raise InputError(f"{self.name} does not run {target} bundles; it runs: {', '.join(RUNS_ON)}")
        return f"{target}-runtime 1.2 on {self.name}"

    def logits(self, target: str, model: Path, images: Image, progress: Progress) -> Logits:
        self.asked.append((target, model.name, len(images)))
        runner = TARGETS[target].backend.load(model, 1)
        answers = [runner(images[i : i + 1]) for i in progress.track(range(len(images)), "toy", len(images))]
        return self.distort(np.concatenate(answers))

    def check_counting(self) -> None:
        if self.cannot_count is not None:
            raise self.cannot_count

    def count(self, target: str, models: Sequence[Path], image: Image, runs: int) -> tuple[Count, ...]:
        return tuple(self._count(target, model, image, runs) for model in models)

    def _count(self, target: str, model: Path, image: Image, runs: int) -> Count:
        self.asked.append((target, model.name, runs))
        assert image.shape[0] == 1 and model.exists()
        counts = FLOAT_COUNTS if "fp32" in model.name else BUILT_COUNTS
        instructions = tuple(counts[run % len(counts)] for run in range(runs))
        kernels = (Kernel("libtoy.so", "gemm", "sdot", 700), Kernel("libc.so.6", "memcpy", "ldp", 100))
        return Count(instructions, kernels)


def plug_in(patch: pytest.MonkeyPatch, device: Device) -> None:
    """Let the pipeline find ``device`` under its name, next to ``local``."""

    def open_device(name: str) -> Device | None:
        if name not in (LOCAL, device.name):
            raise InputError(f"unknown device {name!r}; valid: {LOCAL}, {device.name}")
        return None if name == LOCAL else device

    replace_opening(patch, open_device)


def replace_opening(patch: pytest.MonkeyPatch, open_device: Callable[[str], Device | None]) -> None:
    """Let the pipeline open devices with that function."""
    for module in ("build", "verbs"):  # the package has functions of the same names
        patch.setattr(sys.modules[f"levit_edge.pipeline.{module}"], "open_device", open_device)


def turned(share: float) -> Callable[[Logits], Logits]:
    """The answers of that share of the images turned round: another class wins."""

    def distort(logits: Logits) -> Logits:
        wrong = logits.copy()
        count = round(share * len(wrong))
        wrong[:count] = -wrong[:count]
        return wrong

    return distort
