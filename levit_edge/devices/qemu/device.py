"""An emulated ARM processor as a device: the answers of the runtimes' ARM kernels, and instructions per inference."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from levit_edge.bundle.files import clear_os_errors
from levit_edge.devices.device import Count, Timing
from levit_edge.devices.qemu import NAME
from levit_edge.devices.qemu.cpus import CPUS, Cpu
from levit_edge.devices.qemu.emulator import Plan, run_guests
from levit_edge.devices.qemu.machine import counting_plugin, site_folders, versions
from levit_edge.devices.qemu.read_counts import count_of
from levit_edge.errors import InputError, LevitEdgeError
from levit_edge.progress import Progress
from targets.registry import TARGETS
from targets.registry import target as find_target
from targets.runner import Image, Logits

IMAGES = "images.npy"
MAX_GUESTS = 8
MAX_COUNTED_RUNS = 1000  # the counting plugin has room for 4096 phases, one for each inference


@dataclass(frozen=True)
class Runtime:
    """A runtime of the machine. ``label`` is what the runner on this machine calls the same runtime in a report.

    ``needs_atomics`` says why it runs only on cores with the atomic instructions of Armv8.1, empty when it runs on all.
    """

    label: str
    needs_atomics: str = ""


# By the name that the record of a target gives its runtime, which is also the name of the package in the machine.
RUNTIMES = {
    "executorch": Runtime("executorch-xnnpack", needs_atomics="the torch wheel around the runtime"),
    "onnxruntime": Runtime("onnxruntime-cpu"),
}


@dataclass(frozen=True)
class EmulatedDevice:
    """One core model of the emulated machine. Its time says nothing about the core, so it counts instructions."""

    cpu: Cpu
    architecture: str = "arm64"
    executes: bool = True
    times: bool = False
    counts: bool = True
    batch_images: int = 256  # starting the emulator costs as much as several images

    @property
    def name(self) -> str:
        return f"{NAME}:{self.cpu.name}"

    def runtime(self, target: str) -> str:
        """The runtime, its version and this device; InputError for a target that this core cannot run."""
        package = find_target(target).runtime
        if package not in RUNTIMES:
            runs = ", ".join(name for name, row in TARGETS.items() if row.runtime in RUNTIMES)
            raise InputError(f"{self.name} does not run {target} bundles; it runs: {runs}")
        runtime = RUNTIMES[package]
        if runtime.needs_atomics and not self.cpu.has_atomics:
            cores = ", ".join(cpu.name for cpu in CPUS if cpu.has_atomics)
            raise InputError(
                f"{self.name} does not run {target} bundles: {runtime.needs_atomics} needs the atomic "
                f"instructions of Armv8.1; cores that have them: {cores}"
            )
        return f"{runtime.label} {versions()[package]} on {self.name}"

    def check(self) -> None:
        """MissingComponentError where there is no C compiler for the counting plugin, or the emulator takes none."""
        counting_plugin()

    def check_runs(self, threads: int, runs: int) -> None:
        """InputError unless it is one thread and the plugin has room for that many inferences."""
        if threads != 1:
            raise InputError(f"threads is {threads}; {self.name} counts the instructions of 1 thread")
        if not 1 <= runs <= MAX_COUNTED_RUNS:
            raise InputError(f"runs is {runs}; {self.name} counts 1 to {MAX_COUNTED_RUNS} inferences")

    def load(self, target: str, model: Path, threads: int, progress: Progress) -> EmulatedRunner:  # noqa: ARG002
        """``model``, for whose every batch guests are started. Each of them computes on one thread."""
        return EmulatedRunner(self, target, model, self.runtime(target), progress)

    def time(self, target: str, reference: Path, model: Path, image: Image, threads: int, runs: int) -> Timing | None:  # noqa: ARG002
        """Never called, because ``times`` is not set; InputError."""
        raise InputError(f"{self.name} counts instructions; its times say nothing about a processor")

    def logits(self, target: str, model: Path, images: Image, progress: Progress) -> Logits:
        """The answers of ``model`` to every image: float32 [B, C, H, W] -> [B, classes].

        The images are shared among as many guests as there are cores to use.
        """
        workers = min(_cores(), len(images))
        with _scratch(images) as folder:
            outs = [folder / f"logits-{worker}.npy" for worker in range(workers)]
            plans = [
                replace(self._plan(target, model, folder, out), worker=worker, workers=workers)
                for worker, out in enumerate(outs)
            ]
            with closing(run_guests(self.cpu, plans)) as done:
                for _ in progress.track(done, f"{target} on {self.name}", len(images)):
                    pass
            shares = [np.load(_written(out, model)) for out in outs]
        logits = np.empty((len(images), shares[0].shape[1]), dtype=np.float32)
        for worker, share in enumerate(shares):
            logits[worker::workers] = share
        return logits

    def count(self, target: str, models: Sequence[Path], image: Image, runs: int) -> tuple[Count, ...]:
        """Instructions of each of ``runs`` inferences of one image, and the functions they belong to, for each model.

        The guests of all models run at the same time: what runs beside a guest does not change its count.
        """
        plugin = counting_plugin()
        with _scratch(image) as folder:
            maps = [folder / f"maps-{index}.txt" for index in range(len(models))]
            plans = [
                replace(self._plan(target, model, folder, out), runs=runs)
                for model, out in zip(models, maps, strict=True)
            ]
            with closing(run_guests(self.cpu, plans, plugin)) as done:
                for _ in done:
                    pass
            return tuple(
                count_of(_written(Path(f"{out}.blocks"), model), _written(out, model), runs)
                for model, out in zip(models, maps, strict=True)
            )

    def _plan(self, target: str, model: Path, folder: Path, out: Path) -> Plan:
        self.runtime(target)  # InputError for a target that this core cannot run
        runtime = find_target(target).runtime
        images = str(folder / IMAGES)
        return Plan(
            runtime=runtime, model=str(model.resolve()), images=images, out=str(out), site=site_folders(runtime)
        )


@dataclass
class EmulatedRunner:
    """A model file on an emulated processor. float32 [1, C, H, W] -> float32 [1, classes], or many at once."""

    device: EmulatedDevice
    target: str
    model: Path
    runtime: str
    progress: Progress
    executed: bool = True

    def __call__(self, image: Image) -> Logits:
        return self.batch(image)

    def batch(self, images: Image) -> Logits:
        """float32 [B, C, H, W] -> [B, classes]."""
        return self.device.logits(self.target, self.model, images, self.progress)


def _cores() -> int:
    """How many cores this process may use, at most MAX_GUESTS: each guest takes some 200 MB of memory."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, MAX_GUESTS)


@contextmanager
def _scratch(images: Image) -> Iterator[Path]:
    """A temporary folder that holds the images for all guests to read."""
    with clear_os_errors(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory() as name:
        folder, array = Path(name), np.ascontiguousarray(images, dtype=np.float32)
        with (folder / IMAGES).open("wb") as file:  # numpy's own writing hides the reason of a failure
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
            file.write(array.data)
        yield folder


def _written(out: Path, model: Path) -> Path:
    if not out.is_file():
        raise LevitEdgeError(f"the emulator ended without an answer for {model.name}")
    return out
