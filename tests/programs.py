"""The smallest LeViT with every kind of layer, traced, calibrated and quantized once for all tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx
from torch.export import ExportedProgram

from levit_edge.families.levit.config import LevitConfig
from levit_edge.families.levit.fuse import FusedLevit, fuse
from levit_edge.families.load import from_module
from quantize.flow import calibrate, quantize, trace
from quantize.recipes import RECIPES, Recipe
from quantize.statistics import Histogram
from targets.registry import TARGETS
from tests.levit_edge.families.levit.levits import hf_model, image, tiny_config

QUANTIZE = torch.ops.quantized_decomposed.quantize_per_tensor.default
DEQUANTIZE = torch.ops.quantized_decomposed.dequantize_per_tensor.default
DEQUANTIZE_CHANNELS = torch.ops.quantized_decomposed.dequantize_per_channel.default

# One attention inside a stage, both subsampling ones, and an MLP behind each.
CONVS, LINEARS, ATTENTIONS, HARDSWISHES = 6, 17, 3, 9

# Everything that a target can store is stored, so that a test meets each kind of tensor as integers. The recipe `int8`
# keeps the first layer and the head float.
FULL = Recipe("full", "int8", weights="int8", activations="int8", keep_float=())
PLANS = {**RECIPES, FULL.name: FULL}


def micro_config() -> LevitConfig:
    return tiny_config(depths=(1, 0, 0))


@dataclass(frozen=True)
class Micro:
    """``calibration`` and ``images`` are different standard normal pixels [B, 3, 64, 64]."""

    model: FusedLevit
    program: ExportedProgram
    calibration: Tensor
    images: Tensor
    histograms: Mapping[str, Histogram]

    @property
    def example(self) -> Tensor:
        return self.calibration[:1]

    @property
    def logits(self) -> NDArray[np.float32]:
        """The float model's answer to ``images``."""
        return run(self.program, self.images)


@cache
def micro() -> Micro:
    config = micro_config()
    model = fuse(from_module(hf_model(config, heads=2)).model)
    calibration = image(config, batch=8, seed=1)
    program = trace(model, calibration[:1])
    histograms = calibrate(program, [calibration])
    return Micro(model, program, calibration, image(config, batch=8, seed=2), histograms)


@cache
def quantized(target: str, recipe: str = FULL.name) -> ExportedProgram:
    scene = micro()
    return quantize(scene.program, scene.example, PLANS[recipe], TARGETS[target].scheme, scene.histograms)


def run(program: ExportedProgram, images: Tensor) -> NDArray[np.float32]:
    """Logits [B, classes], one image at a time."""
    module = program.module()
    with torch.no_grad():
        logits: NDArray[np.float32] = torch.cat([module(image) for image in images.split(1)]).numpy()
    return logits


def nodes(module: fx.GraphModule, target: object) -> Iterator[fx.Node]:
    return (node for node in module.graph.nodes if node.target == target)
