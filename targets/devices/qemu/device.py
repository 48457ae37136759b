"""The emulated machine as a device: logits by the real ARM kernels, and instructions per inference."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from levit_edge.errors import InputError
from levit_edge.progress import Progress
from targets.base import Image, Logits
from targets.devices.base import Count
from targets.devices.qemu.blocks import count_of
from targets.devices.qemu.cpus import CPUS, Cpu
from targets.devices.qemu.emulator import Plan, run_guests
from targets.devices.qemu.machine import counting_plugin, site_folders, versions

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
        """The answers to every image, shared among as many emulators as there are cores."""
        workers = min(os.cpu_count() or 1, len(images))
        with tempfile.TemporaryDirectory() as folder:
            plans = [
                self._plan(target, model, images, Path(folder), worker=worker, workers=workers)
                for worker in range(workers)
            ]
            label = f"{target} on {self.name}"
            for _ in progress.track(run_guests(self.cpu, plans), label, len(images)):
                pass
            shares = [np.load(plan.out) for plan in plans]
        logits = np.empty((len(images), shares[0].shape[1]), dtype=np.float32)
        for worker, share in enumerate(shares):
            logits[worker::workers] = share
        return logits

    def count(self, target: str, model: Path, image: Image, runs: int) -> Count:
        """Guest instructions of each of ``runs`` inferences of one image, and where they were spent."""
        plugin = counting_plugin()
        with tempfile.TemporaryDirectory() as folder:
            plan = self._plan(target, model, image, Path(folder), runs=runs)
            for _ in run_guests(self.cpu, [plan], plugin):
                pass
            return count_of(Path(f"{plan.out}.blocks"), Path(plan.out), runs)

    def _plan(
        self, target: str, model: Path, images: Image, folder: Path, worker: int = 0, workers: int = 1, runs: int = 0
    ) -> Plan:
        self.runtime(target)
        shared = folder / "images.npy"
        if not shared.exists():
            np.save(shared, np.ascontiguousarray(images, dtype=np.float32))
        out = folder / ("maps.txt" if runs else f"logits-{worker}.npy")
        return Plan(
            target=target,
            model=str(model.resolve()),
            images=str(shared),
            out=str(out),
            site=site_folders(target),
            worker=worker,
            workers=workers,
            runs=runs,
        )
