"""What each layer of a program may give, computed from the values that a runtime had for the layers before it.

A quantize operator between two layers may round a tie the other way in the runtime. So the program is computed more
than once, with what these operators round moved by TIE steps down and up, and the operands of a layer are whatever lies
between the results. Where the input of one such operator depends on another one, as in an integer Hardswish, both are
moved in all four ways, since their effects may cancel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from quantize.names import is_layer_node
from quantize.roles import LAYERS, is_computed, source
from targets.program.replay import stored_as
from targets.program.run import computed_constants
from targets.program.tap import Layer
from targets.runner import Image

TIE = 1 / 64  # of a step
ROUNDING = 2.0**-16  # of the sum of the absolute products


@dataclass(frozen=True)
class Bound:
    """What a layer may give: ``values`` plus or minus ``spread`` and ``rounding``, arrays float64 of the layer's shape.

    ``spread`` is what its operands allow, ``rounding`` what the order of additions does. ``parameters`` are (scale,
    zero point, lowest, highest) where it is stored as integers.
    """

    node: fx.Node
    values: NDArray[np.float64]
    spread: NDArray[np.float64]
    rounding: NDArray[np.float64]
    parameters: tuple[float, int, int, int] | None


def bounds(module: fx.GraphModule, image: Image, found: Sequence[Layer]) -> Iterator[Bound]:
    """The bounds of every layer of ``module`` on ``image`` float32 [1, C, H, W], given what a runtime ``found``."""
    given = [torch.from_numpy(layer.values) for layer in found]
    constants = computed_constants(module)
    runs = [_Operands(module, given, shifts).read(image, constants) for shifts in _shifts(module.graph)]
    for calls in zip(*runs, strict=True):
        with torch.no_grad():
            bound = _bound(*calls)
        yield bound


@dataclass(frozen=True)
class _Call:
    """A layer and its arguments, with tensors for nodes."""

    node: fx.Node
    arguments: tuple[Any, ...]

    @property
    def operands(self) -> tuple[Tensor, ...]:
        """What is computed from the image: the input of a layer with weights, both factors of a product."""
        return self.arguments[: 1 if self.node.target in LAYERS else 2]


class _Operands(fx.Interpreter):
    """Runs a graph except its layers, whose values are ``given``; ``shifts`` move what quantize operators round."""

    def __init__(self, module: fx.GraphModule, given: Sequence[Tensor], shifts: Mapping[fx.Node, float]) -> None:
        super().__init__(module)
        self.given, self.shifts, self.calls = given, shifts, list[_Call]()

    def read(self, image: Image, constants: Mapping[fx.Node, Any]) -> list[_Call]:
        """The calls of the layers; ``constants`` are the values of nodes that depend on no image."""
        with torch.no_grad():
            self.run(torch.from_numpy(np.ascontiguousarray(image)), initial_env=dict(constants))
        return self.calls

    def run_node(self, n: fx.Node) -> object:
        if n in self.shifts:
            x, scale, zero_point, lowest, highest, dtype = self.fetch_args_kwargs_from_env(n)[0]
            return torch.clamp(torch.round(x / scale + self.shifts[n]) + zero_point, lowest, highest).to(dtype)
        if not is_layer_node(n):
            return super().run_node(n)
        self.calls.append(_Call(n, self.fetch_args_kwargs_from_env(n)[0]))
        return self.given[len(self.calls) - 1]


def _shifts(graph: fx.Graph) -> list[dict[fx.Node, float]]:
    """For each run, how far each quantize operator is moved; a single run without any where none can round a tie.

    An operator that stores a layer, or a rearrangement of integers, rounds numbers that are on its grid already.
    """
    operators = torch.ops.quantized_decomposed
    depths = dict[fx.Node, int]()  # by node: how many operators that can round a tie are between it and the layers
    rounding = dict[fx.Node, int]()
    for node in graph.nodes:
        depth = 0 if is_layer_node(node) else max((depths[parent] for parent in node.all_input_nodes), default=0)
        if node.target == operators.quantize_per_tensor.default and is_computed(node):
            origin = source(node.all_input_nodes[0])
            if not is_layer_node(origin) and origin.target != operators.dequantize_per_tensor.default:
                depth += 1
                rounding[node] = depth
        depths[node] = depth
    if not rounding:
        return [{}]
    signs = [(-1, -1), (1, 1), (-1, 1), (1, -1)][: 4 if max(rounding.values()) > 1 else 2]
    return [{node: pair[depth % 2] * TIE for node, depth in rounding.items()} for pair in signs]


def _bound(*calls: _Call) -> Bound:
    """From the calls of one layer in all runs."""
    node, operator = calls[0].node, calls[0].node.target
    assert callable(operator)
    middles, spreads = [], []
    for results in zip(*(call.operands for call in calls), strict=True):
        stacked = torch.stack(results)
        low, high = stacked.amin(0), stacked.amax(0)
        middles.append((low + high) / 2)
        spreads.append((high - low) / 2)
    sizes = [middle.abs() for middle in middles]
    if node.target in LAYERS:
        weight, *rest = calls[0].arguments[1:]
        bias, *settings = rest or [None]
        values = operator(middles[0], weight, bias, *settings)
        spread = operator(spreads[0], weight.abs(), None, *settings)
        size = operator(sizes[0], weight.abs(), None if bias is None else bias.abs(), *settings)
    else:
        values, size = operator(*middles), operator(*sizes)
        spread = operator(sizes[0], spreads[1]) + operator(spreads[0], sizes[1]) + operator(*spreads)
    return Bound(node, _float64(values), _float64(spread), ROUNDING * _float64(size), stored_as(node))


def _float64(tensor: Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = tensor.to(torch.float64).numpy()
    return array
