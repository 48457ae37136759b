"""What every device is to the flow: a machine of another kind that runs the model files of some targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from levit_edge.progress import Progress

if TYPE_CHECKING:  # it imports torch, and doctor does not wait for that
    from targets.target import Image, Logits

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
    """Guest instructions of each counted inference, and the functions that executed them, largest first."""

    instructions: tuple[int, ...]
    kernels: tuple[Kernel, ...]


class Device(Protocol):
    """Another machine. ``name`` is what the user calls it, such as ``qemu-arm64:cortex-a76``."""

    @property
    def name(self) -> str: ...

    def runtime(self, target: str) -> str:
        """What runs the files of ``target`` there, with its version; InputError for a target that it cannot run."""

    def logits(self, target: str, model: Path, images: Image, progress: Progress) -> Logits:
        """The answers of ``model`` to every image: float32 [B, C, H, W] -> [B, classes]."""

    def check_counting(self) -> None:
        """MissingComponentError with what must be installed before instructions can be counted."""

    def count(self, target: str, models: Sequence[Path], image: Image, runs: int) -> tuple[Count, ...]:
        """Instructions of ``runs`` inferences of one image, float32 [1, C, H, W], on one thread, of each model."""
