"""What a build is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from levit_edge.devices.device import LOCAL
from levit_edge.errors import InputError
from targets.registry import TARGETS, target


@dataclass(frozen=True)
class BuildOptions:
    """Every option of ``levit-edge build``.

    ``model`` is a path, a hub id, a variant name (with ``random_weights``), a module (:class:`FusedLevit`,
    :class:`Levit` or a transformers ``Levit*``), or None for the embedded demo. ``labels`` is a text file with one
    class name a line. ``limit`` caps the evaluation images. ``threads`` are those of the timed runtimes. ``device``
    is another machine that runs the bundles too, such as ``qemu-arm64``.
    """

    model: str | nn.Module | None = None
    targets: tuple[str, ...] = tuple(TARGETS)
    calibration: Path | None = None
    eval_data: Path | None = None
    recipe: str = "int8"
    samples: int = 256
    seed: int = 0
    out: Path = Path("dist")
    random_weights: bool = False
    skip_bad_images: bool = False
    thresholds: Path | None = None
    threads: int = 1
    runs: int = 60
    limit: int | None = None
    labels: Path | None = None
    device: str = LOCAL

    def __post_init__(self) -> None:
        for field in ("samples", "threads", "runs", "limit"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise InputError(f"{field} is {value}; it must be at least 1")
        if len(set(self.targets)) != len(self.targets):
            raise InputError(f"targets {', '.join(self.targets)}: name each once")
        if not self.targets:
            raise InputError(f"no target was named; valid: {', '.join(TARGETS)}")
        for name in self.targets:
            target(name)
