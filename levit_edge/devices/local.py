"""This machine as a device: it executes and times, with the runtimes that are installed here."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from levit_edge.devices.device import LOCAL, Count, Timing
from levit_edge.errors import InputError, MissingComponentError
from levit_edge.metrics.latency import measure
from levit_edge.metrics.measurement_defaults import WARMUP_ROUNDS
from levit_edge.progress import Progress
from targets.registry import target as find_target
from targets.runner import Image, Runner


@dataclass(frozen=True)
class LocalDevice:
    """The machine that this process runs on."""

    name: str = LOCAL
    architecture: str = field(default_factory=platform.machine)
    executes: bool = True
    times: bool = True
    counts: bool = False
    batch_images: int = 8

    def runtime(self, target: str) -> str:
        """The package that runs ``target``, with its version, or a stand-in where the operating system has none.

        Raises InputError for an unknown target and MissingComponentError where the package is not installed.
        """
        chosen = find_target(target)
        if chosen.executes_on and platform.system() not in chosen.executes_on:
            return f"a stand-in for {chosen.runtime} on {self.name}"
        package = chosen.runs_with[0]
        try:
            return f"{package} {metadata.version(package)} on {self.name}"
        except metadata.PackageNotFoundError:
            raise MissingComponentError(package, f"pip install {package}") from None

    def check(self) -> None:
        """Nothing has to be added: a package that is absent is named when a model is loaded."""

    def check_runs(self, threads: int, runs: int) -> None:
        """InputError unless both are 1 or more."""
        if threads < 1:
            raise InputError(f"threads is {threads}; {self.name} uses 1 or more")
        if runs < 1:
            raise InputError(f"runs is {runs}; {self.name} times 1 or more rounds")

    def load(self, target: str, model: Path, threads: int, progress: Progress) -> Runner:  # noqa: ARG002
        """``model`` in the runtime of ``target``; MissingComponentError where its package is absent."""
        return find_target(target).backend.load(model, threads)

    def time(self, target: str, reference: Path, model: Path, image: Image, threads: int, runs: int) -> Timing | None:
        """Times of both files in milliseconds; None where a stand-in answers instead of the target's runtime."""
        load = find_target(target).backend.load
        runner = load(model, threads)
        return time_runners(load(reference, threads), runner, image, runs) if runner.executed else None

    def count(self, target: str, models: Sequence[Path], image: Image, runs: int) -> tuple[Count, ...]:  # noqa: ARG002
        """Never called, because ``counts`` is not set; InputError."""
        raise InputError(f"{self.name} does not count instructions")


def time_runners(reference: Runner, runner: Runner, image: Image, runs: int) -> Timing:
    """Times of two loaded models on one image, float32 [1, C, H, W]: ``runs`` rounds, in which they take turns.

    WARMUP_ROUNDS rounds before them are not counted.
    """
    times = measure(
        {"reference": lambda: reference(image), "model": lambda: runner(image)}, runs=runs, warmup=WARMUP_ROUNDS
    )
    return Timing(runtime=runner.runtime, reference=times["reference"], model=times["model"])
