"""A model file against its program: the constants, then the layers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import fx

from levit_edge.metrics.program_match import ProgramMatch
from quantize.names import layer_name
from targets.program import constants
from targets.program.constants import Graph
from targets.program.judge import alignment, judge
from targets.program.replay import layer_nodes
from targets.program.tap import Layer
from targets.runner import Image

Tap = Callable[[Image], tuple[Layer, ...]]


def match(found: Graph, program: Graph, module: fx.GraphModule, tap: Tap, images: Image) -> ProgramMatch:
    """How a model file compares with its program.

    ``found`` are the constants of the file and ``program`` those that it should have; ``module`` computes the program
    with these constants, and ``tap`` gives the layers of the file on one image. ``images`` are float32 [B, C, H, W].
    """
    names = [layer_name(node) for node in layer_nodes(module.graph)]
    count = sum(step.is_layer for step in found.steps)
    if count != len(names):
        return ProgramMatch(
            constants=0, layers=0, departures=(f"the file has {count} layers, the program {len(names)}",)
        )
    lines = constants.departures(found, program, names)
    reasons = dict[str, str]()
    for image in np.split(images, len(images)):
        layers = tap(image)
        if reason := alignment(layers, module):
            return ProgramMatch(constants=constants.count(found), layers=0, departures=(*lines, reason))
        for name, reason in zip(names, judge(module, image, layers), strict=True):
            if reason:
                reasons.setdefault(name, reason)
    lines += tuple(f"{name}: {reasons[name]}" for name in names if name in reasons)
    return ProgramMatch(constants=constants.count(found), layers=len(names), departures=lines)
