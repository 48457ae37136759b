"""The emulated machine as a device: logits by the real ARM kernels, and instructions per inference."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from levit_edge.bundle.files import clear_os_errors
from levit_edge.devices.device import Count
from levit_edge.devices.qemu.blocks import count_of
from levit_edge.devices.qemu.cpus import CPUS, Cpu
from levit_edge.devices.qemu.emulator import Plan, run_guests
from levit_edge.devices.qemu.machine import counting_plugin, site_folders, versions
from levit_edge.errors import InputError, LevitEdgeError
from levit_edge.progress import Progress
from targets.target import Image, Logits

IMAGES = "images.npy"
MAX_GUESTS = 8
_RUNTIMES = {"onnx": ("onnxruntime-cpu", "onnxruntime"), "executorch": ("executorch-xnnpack", "executorch")}


@dataclass(frozen=True)
class EmulatedDevice:
    """One core model of the emulated machine."""

    cpu: Cpu

    @property
    def name(self) -> str:
        return f"qemu-arm64:{self.cpu.name}"

    def runtime(self, target: str) -> str:
        """The runtime, its version and this device; InputError for a target that this core cannot run."""
        if target not in _RUNTIMES:
            raise InputError(f"{self.name} does not run {target} bundles; it runs: {', '.join(_RUNTIMES)}")
        if target == "executorch" and not self.cpu.has_atomics:
            cores = ", ".join(cpu.name for cpu in CPUS if cpu.has_atomics)
            raise InputError(
                f"{self.name} does not run executorch bundles: the torch wheel around the runtime needs the atomic "
                f"instructions of Armv8.1; cores that have them: {cores}"
            )
        runtime, package = _RUNTIMES[target]
        return f"{runtime} {versions()[package]} on {self.name}"

    def logits(self, target: str, model: Path, images: Image, progress: Progress) -> Logits:
        """The answers to every image, shared among as many emulators as there are cores to use."""
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

    def check_counting(self) -> None:
        """MissingComponentError where there is no compiler, or the emulator takes no plugins."""
        counting_plugin()

    def count(self, target: str, models: Sequence[Path], image: Image, runs: int) -> tuple[Count, ...]:
        """Guest instructions of each of ``runs`` inferences of one image, and where they were spent, of each model.

        All models are counted at the same time: what runs beside a guest does not change its count.
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
        self.runtime(target)
        images, site = str(folder / IMAGES), site_folders(target)
        return Plan(target=target, model=str(model.resolve()), images=images, out=str(out), site=site)


def _cores() -> int:
    """Cores that this process may use, at most MAX_GUESTS: each guest takes some 200 MB."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, MAX_GUESTS)


@contextmanager
def _scratch(images: Image) -> Iterator[Path]:
    """A temporary folder with the images in it, for all guests to read."""
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
