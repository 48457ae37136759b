"""What a machine other than this one adds: the answers of its kernels, and instructions instead of milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from calibration import Batch
from levit_edge.devices.device import Device
from levit_edge.errors import InputError
from levit_edge.metrics.accuracy import AccuracyMeter
from levit_edge.metrics.closeness import ClosenessMeter
from levit_edge.metrics.instructions import Instructions
from levit_edge.pipeline.verify import run_each
from levit_edge.progress import Progress
from levit_edge.report.schema import DeviceFigures
from targets.target import Image, Logits, Runner

COUNTED_RUNS = 5
DEVICE_BATCH = 256  # images at a time: starting the emulator costs as much as several of them


@dataclass(frozen=True)
class DeviceRunner:
    """A model file on ``device``. float32 [1, C, H, W] -> float32 [1, classes], or :meth:`batch` for many at once."""

    device: Device
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


def runtimes(device: Device, targets: Sequence[str]) -> dict[str, str]:
    """What runs each of ``targets`` on ``device``, without those that it cannot run; InputError when that is all."""
    found, refusals = {}, []
    for name in targets:
        try:
            found[name] = device.runtime(name)
        except InputError as refusal:
            refusals.append(refusal)
    if not found:
        raise refusals[0]
    return found


def count_instructions(
    device: Device, target: str, reference: Path, model: Path, image: Image, runs: int
) -> Instructions:
    """Instructions of ``runs`` inferences of one image, float32 [1, C, H, W], of both model files."""
    before, built = device.count(target, (reference, model), image, runs)
    return Instructions.of(
        device=device.name,
        runtime=device.runtime(target),
        fp32=before.instructions,
        built=built.instructions,
        kernels=((k.library, k.function, k.kind, k.instructions) for k in built.kernels),
    )


class DeviceMeter:
    """Sums over batches: a device against the float model, and against the same file in this host's runtime."""

    def __init__(self) -> None:
        self._accuracy, self._local = AccuracyMeter(), ClosenessMeter()

    def update(self, batch: Batch, floats: Logits, local: Logits, device: Logits) -> None:
        """Add the answers [B, classes] of the three to one batch."""
        self._accuracy.update(floats, device, batch.class_index)
        self._local.update(local, device)

    def result(self, *, runtime: str, local_runtime: str) -> DeviceFigures:
        """The figures so far; ValueError when no image was added."""
        accuracy = self._accuracy.result(runtime=runtime, executed=True)
        return DeviceFigures(accuracy=accuracy, local=self._local.result(local_runtime))


def device_accuracy(
    batches: Iterable[Batch], reference: Callable[[Image], Logits], local: Runner, runner: DeviceRunner
) -> DeviceFigures:
    """Accuracy of ``runner`` against ``reference`` ([B, C, H, W] -> [B, classes]), in one pass over the images."""
    meter = DeviceMeter()
    for batch in batches:
        meter.update(batch, reference(batch.inputs), run_each(local, batch.inputs), runner.batch(batch.inputs))
    return meter.result(runtime=runner.runtime, local_runtime=local.runtime)
