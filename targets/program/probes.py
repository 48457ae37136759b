"""The taps by target: one dict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from levit_edge.errors import InputError
from targets.coreml import tap as mil_tap
from targets.coreml import target as mlprogram
from targets.ort import tap as ort_tap
from targets.ort import target as ort
from targets.program.tap import Layer
from targets.target import Image, Runner
from targets.xnnpack import tap as xnnpack_tap
from targets.xnnpack import target as xnnpack


@dataclass(frozen=True)
class Probe:
    """``tap(path, image)`` gives the layers of a model file, ``load(path)`` the same runtime without taps."""

    tap: Callable[[Path, Image], tuple[Layer, ...]]
    load: Callable[[Path], Runner]


PROBES: dict[str, Probe] = {
    "executorch": Probe(xnnpack_tap.tap, lambda path: xnnpack.load(path, 1)),
    "coreml": Probe(mil_tap.tap, mlprogram.ReferenceRunner),  # on macOS too: Core ML shows no intermediates
    "onnx": Probe(ort_tap.tap, lambda path: ort.load(path, 1)),
}


def probe(target: str) -> Probe:
    """The probe of a target; InputError with the valid names for any other."""
    if target not in PROBES:
        raise InputError(f"unknown target {target!r}; valid: {', '.join(PROBES)}")
    return PROBES[target]
