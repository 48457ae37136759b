"""Every layer of a package computes what the same layer of its program does.

The reference interpreter computes the package without rounding to float16. Torch computes each layer of the program,
with its constants as the package stores them, from the values that the package gave the layers before it. No error is
therefore inherited, and both agree to the last bits of float32, except for a few values where a quotient lies halfway
between two integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import fx
from torch.export import ExportedProgram

from levit_edge.errors import LevitEdgeError
from targets.coreml import mil
from targets.coreml.tap import package_layers
from targets.coreml.verify.half_constants import half_constants
from targets.program.replay import layer_nodes, layer_outputs
from targets.runner import Image

# Healthy layers differ by float32 rounding, and int8 ones only where a tie rounds the other way. A zero point that is
# 1 off, a dropped bias or a transposed weight leaves a layer that reads it far below this; the tests plant each.
LAYER_DB = 100.0
LAYER_IMAGES = 2

Values = NDArray[np.float32]


@dataclass(frozen=True)
class _Computed:
    """What the package computes for one layer: ``values``, and ``passed_on`` to the operators after it.

    ``passed_on`` are the same values, or what the integers that store them stand for. ``name`` is that in the package.
    """

    name: str
    values: Values
    passed_on: Values


def check_layers(package: Path, program: ExportedProgram, half: bool, images: Image) -> None:
    """LevitEdgeError, naming the first, if a layer differs; of ``images`` float32 [B, C, H, W] it uses LAYER_IMAGES."""
    for layer, found_db in layers_db(package, program, half, images[:LAYER_IMAGES]).items():
        if found_db < LAYER_DB:
            raise LevitEdgeError(
                f"{package.name}: layer '{layer}' does not compute what the program does "
                f"({found_db:.1f} dB, at least {LAYER_DB:.1f} dB expected); nothing was written"
            )


def layers_db(package: Path, program: ExportedProgram, half: bool, images: Image) -> dict[str, float]:
    """How close each layer of the package is to the program's: the rms of its values over their median error, in dB.

    A tie that rounds the other way spoils a few values, or a whole layer in a few images. So each error is the median
    over the values of an image, and a layer counts with its best result over ``images`` and their mirror images.
    ``images`` are float32 [B, C, H, W]; the package is interpreted in float32. Raises LevitEdgeError where the layers
    differ in number or shape.
    """
    interpreted = mil.load(package)
    module = half_constants(program) if half else program.module()
    best = dict[str, float]()
    for image in (*np.split(images, len(images)), *np.split(images[..., ::-1], len(images))):
        layers = _computed(interpreted, np.ascontiguousarray(image))
        for layer, expected in zip(layers, _replayed(package, module, layers, image), strict=True):
            best[layer.name] = max(best.get(layer.name, -np.inf), _closeness_db(expected, layer.values))
    return best


def _computed(package: mil.Program, image: Image) -> list[_Computed]:
    layers = package_layers(package.operations)
    names = {name for layer in layers for name in (layer.name, layer.passed_on)}
    traced = package.trace(image, names, "float32")
    return [_Computed(layer.name, traced[layer.name].values, traced[layer.passed_on].values) for layer in layers]


def _replayed(package: Path, module: fx.GraphModule, layers: Sequence[_Computed], image: Image) -> list[Values]:
    """What each layer of the program computes from the package's values of the layers before it."""
    count = len(layer_nodes(module))
    if count != len(layers):
        raise LevitEdgeError(f"{package.name} has {len(layers)} layers, its program {count}; nothing was written")
    expected = [values for _, values in layer_outputs(module, image, [layer.passed_on for layer in layers])]
    for layer, values in zip(layers, expected, strict=True):
        if layer.values.shape != values.shape:
            shapes = f"{list(layer.values.shape)}, in the program {list(values.shape)}"
            raise LevitEdgeError(f"{package.name}: layer '{layer.name}' is {shapes}; nothing was written")
    return expected


def _closeness_db(expected: Values, found: Values) -> float:
    """Infinite where at least half of the values are equal, -infinite where the median error is not finite."""
    error = float(np.median(np.abs(expected.astype(np.float64) - found)))
    signal = float(np.sqrt(np.square(expected.astype(np.float64)).mean()))
    if error == 0:
        return float("inf")
    return float(20 * np.log10(signal / error)) if signal > 0 and np.isfinite(error) else float("-inf")
