"""What the flow knows of a device: a machine that runs model files and says what it can measure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from levit_edge.errors import InputError
from levit_edge.progress import Progress

if TYPE_CHECKING:  # the names of devices are wanted where nothing is measured
    from levit_edge.metrics.latency import LatencyStats
    from targets.runner import Image, Runner

LOCAL = "local"


@dataclass(frozen=True)
class Kernel:
    """One function of a library, as far as the counted inferences ran it.

    ``kind`` is what most of its arithmetic is (``sdot``, ``fmla``, ...); ``instructions`` are those of one inference.
    """

    library: str
    function: str
    kind: str
    instructions: int


@dataclass(frozen=True)
class Count:
    """Instructions of each counted inference, and the functions that executed them, largest first."""

    instructions: tuple[int, ...]
    kernels: tuple[Kernel, ...]


@dataclass(frozen=True)
class Timing:
    """Times of two model files that took turns on one device: the float reference and the built model.

    ``runtime`` names what ran them.
    """

    runtime: str
    reference: LatencyStats
    model: LatencyStats


class Device(Protocol):
    """A machine that runs model files.

    Three flags say what it can do, and each belongs to one method: call :meth:`load` only where ``executes`` is set,
    :meth:`time` only where ``times`` is, :meth:`count` only where ``counts`` is.
    """

    @property
    def name(self) -> str:
        """What the user calls the device, such as ``local`` or ``qemu-arm64:cortex-a76``."""

    @property
    def architecture(self) -> str:
        """The architecture of its processor, such as ``arm64``."""

    @property
    def executes(self) -> bool:
        """Whether it gives the answers of a model."""

    @property
    def times(self) -> bool:
        """Whether it measures times that say something about a processor."""

    @property
    def counts(self) -> bool:
        """Whether it counts instructions."""

    @property
    def batch_images(self) -> int:
        """How many images to hand it at a time, so that the cost of starting a model does not matter."""

    def runtime(self, target: str) -> str:
        """What runs the files of ``target`` there, with its version; InputError for a target that it cannot run."""

    def check(self) -> None:
        """MissingComponentError, with the command to run, unless the device can do everything its flags promise."""

    def check_runs(self, threads: int, runs: int) -> None:
        """InputError where it cannot measure with that many threads, or that many timed or counted runs."""

    def load(self, target: str, model: Path, threads: int, progress: Progress) -> Runner:
        """``model``, ready to answer images. InputError for a target that the device cannot run."""

    def time(self, target: str, reference: Path, model: Path, image: Image, threads: int, runs: int) -> Timing | None:
        """Times of ``runs`` inferences of each of two files, which take turns, on one image, float32 [1, C, H, W].

        None where a stand-in answers instead of the target's own runtime, whose time would say nothing.
        """

    def count(self, target: str, models: Sequence[Path], image: Image, runs: int) -> tuple[Count, ...]:
        """Instructions of ``runs`` inferences of one image, float32 [1, C, H, W], on one thread, for each model."""


def runtimes(device: Device, targets: Iterable[str]) -> dict[str, str]:
    """What runs each of ``targets`` on ``device``, without those that it cannot run; InputError when that is all."""
    found, refusals = {}, []
    for name in targets:
        try:
            found[name] = device.runtime(name)
        except InputError as refusal:
            refusals.append(refusal)
    if refusals and not found:
        raise refusals[0]
    return found
