"""The judgement on layers: how close healthy files come to its limits, and the smallest faults that it finds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from quantize.flow import calibrate, quantize, trace
from quantize.names import layer_name
from targets.coreml import tap as coreml_tap
from targets.coreml.half_constants import half_constants
from targets.ort import tap as ort_tap
from targets.program import Layer
from targets.program.bounds import TIE, bounds
from targets.program.judge import alignment, judge
from targets.program.replay import layer_as_stored, layer_nodes
from targets.program.tap import Affine
from targets.registry import TARGETS
from targets.xnnpack import tap as xnnpack_tap
from targets.xnnpack.bias import with_stored_biases
from tests.programs import FULL, PLANS, micro, quantized
from tests.targets.conftest import Written
from tests.targets.models import CASES

IMAGES = [image.numpy() for image in micro().images[:2].split(1)]
# How far healthy files stay below every limit on rounding, here and, measured once, in the trained LeViT-128S.
MARGIN = 4.0


def layers_of(name: str, recipe: str, written: Written, image: NDArray[np.float32]) -> tuple[Layer, ...]:
    """The layers as ``verify`` reads them."""
    path = written(name, recipe)
    if name == "coreml":
        return coreml_tap.open_tap(path, "float32")(image)
    return (ort_tap.tap if name == "onnx" else xnnpack_tap.tap)(path, image)


@cache
def module_of(name: str, recipe: str) -> torch.fx.GraphModule:
    """The program as ``verify`` runs it."""
    program = quantized(name, recipe)
    if name == "executorch":
        return with_stored_biases(program)
    return half_constants(program) if name == "coreml" and PLANS[recipe].half else program.module()


@pytest.mark.parametrize(("name", "recipe"), CASES)
def test_healthy_layers_stay_far_below_the_limits(name: str, recipe: str, written: Written) -> None:
    for image in IMAGES:
        found = layers_of(name, recipe, written, image)
        assert alignment(found, module_of(name, recipe)) == ""
        assert set(judge(module_of(name, recipe), image, found)) == {""}
        for layer, bound in zip(found, bounds(module_of(name, recipe), image, found), strict=True):
            if bound.parameters is None:
                beyond = np.abs(layer.values - bound.values) - bound.spread
                assert (beyond <= bound.rounding / MARGIN).all()
            else:
                scale, zero_point, lowest, highest = bound.parameters
                real = np.clip(bound.values / scale + zero_point, lowest, highest) - lowest
                beyond = np.abs(layer.data - real) - 0.5 - bound.spread / scale
                assert beyond.max() <= TIE / MARGIN


PLACES: dict[str, dict[str, tuple[int | slice, ...]]] = {
    "conv": {
        "channel": (0, 1),
        "tile": (0, slice(None), slice(0, 4), slice(0, 4)),
        "row": (0, slice(None), 2),
        "value": (0, 2, 1, 3),
    },
    "linear": {"channel": (slice(None), 3), "token": (2,), "value": (1, 5)},
    "matmul": {"head": (1,), "token": (0, 2), "value": (1, 0, 3)},
}


def _faulty(layer: Layer, place: tuple[int | slice, ...]) -> Layer:
    """The values of one place moved by a step, or by 1/255 of their range where they are floats."""
    if layer.affine is None:
        data = layer.data.copy()
        data[place] += np.float32(np.ptp(data) / 255)
        return Layer(layer.kind, layer.name, data)
    data = layer.data.astype(int)
    data[place] += np.where(data[place] > 127, -1, 1)
    return Layer(layer.kind, layer.name, data.astype(np.uint8), layer.affine)


def _cases() -> Iterator[tuple[str, str]]:
    yield from ((kind, place) for kind, places in PLACES.items() for place in places)


@pytest.mark.parametrize("recipe", [FULL.name, "fp32"])
@pytest.mark.parametrize("name", TARGETS)
def test_a_fault_of_one_step_in_a_part_of_a_layer_is_found_there_and_nowhere_else(
    name: str, recipe: str, written: Written
) -> None:
    """In the first layer of each kind that is large enough, for every kind of part, down to a single value."""
    image, module = IMAGES[0], module_of(name, recipe)
    healthy = layers_of(name, recipe, written, image)
    names = [layer_name(node) for node in layer_nodes(module.graph)]
    for kind, place in _cases():
        index = next(i for i, layer in enumerate(healthy) if layer.kind == kind and i > 1)
        found = [*healthy[:index], _faulty(healthy[index], PLACES[kind][place]), *healthy[index + 1 :]]
        reasons = judge(module, image, found)
        assert reasons[index], (name, recipe, kind, place)
        # What reads the damaged layer computes from other values, and is right where it was computed from healthy ones.
        assert not any(reasons[:index]), [(names[i], reason) for i, reason in enumerate(reasons[:index]) if reason]
        if place in ("channel", "token", "head"):
            assert f"({place} " in reasons[index] or f", {place} " in reasons[index] or "row" in reasons[index]


class Chain(nn.Module):
    """An integer Hardswish between two layers, where two roundings follow each other."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.hardswish(self.first(x)))


def test_a_tie_that_is_rounded_the_other_way_between_two_layers_is_no_fault() -> None:
    torch.manual_seed(0)
    model, rows = Chain().eval().requires_grad_(False), torch.randn(64, 32)
    program = trace(model, rows[:1])
    program = quantize(program, rows[:1], FULL, TARGETS["onnx"].scheme, calibrate(program, [rows]))
    module, faults = program.module(), 0
    assert isinstance(module, torch.fx.GraphModule)
    for row in rows.split(1):
        for gate, product in ((1, 1), (-1, -1), (1, -1), (-1, 1)):
            found = _with_ties(module, row, gate * TIE / 2, product * TIE / 2)
            assert set(judge(module, row.numpy(), found)) == {""}
        faults += any(judge(module, row.numpy(), _with_ties(module, row, 0, 8 * TIE)))
    assert faults > 32  # an eighth of a step is no tie any more


def _with_ties(module: torch.fx.GraphModule, row: Tensor, gate: float, product: float) -> list[Layer]:
    """The layers, where the integer Hardswish rounds its gate and its product that many steps higher."""
    quantize_operator = torch.ops.quantized_decomposed.quantize_per_tensor.default
    layers, found = layer_nodes(module.graph), list[Layer]()

    class Shifted(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> object:
            before = n.all_input_nodes[0].target if n.target == quantize_operator else None
            if before in (torch.ops.aten.add.Tensor, torch.ops.aten.mul.Tensor):
                x, scale, zero_point, lowest, highest, dtype = self.fetch_args_kwargs_from_env(n)[0]
                shift = gate if before == torch.ops.aten.add.Tensor else product
                return torch.clamp(torch.round(x / scale + shift) + zero_point, lowest, highest).to(dtype)
            value = super().run_node(n)
            if n in layers:
                assert isinstance(value, Tensor)
                found.append(layer_as_stored(n, value.numpy()))
            return value

    Shifted(module).run(row)
    return found


def _one_layer() -> tuple[torch.fx.GraphModule, NDArray[np.float32], NDArray[np.float32]]:
    """(program, image, output) of one linear layer."""
    torch.manual_seed(0)
    model, rows = nn.Linear(32, 16).eval().requires_grad_(False), torch.randn(64, 32)
    return trace(model, rows).module(), rows.numpy(), model(rows).numpy()


def test_floats_may_round_and_no_more() -> None:
    module, rows, healthy = _one_layer()
    assert judge(module, rows, [Layer("linear", "x", healthy)]) == ("",)
    wrong = healthy.copy()
    wrong[3, 5] += 1e-3
    (reason,) = judge(module, rows, [Layer("linear", "x", wrong)])
    assert reason.startswith("1 of 1024 values (token 3, channel 5) are wrong, the worst by ")
    wrong[3, 5] = np.inf
    (reason,) = judge(module, rows, [Layer("linear", "x", wrong)])
    assert reason == "1 of 1024 values (token 3, channel 5) are not finite"
    wrong[3, 5] = np.nan
    assert judge(module, rows, [Layer("linear", "x", wrong)]) == (reason,)


def test_layers_that_cannot_be_compared_are_named() -> None:
    module, _, healthy = _one_layer()
    layer = Layer("linear", "x", healthy)
    name = layer_name(layer_nodes(module.graph)[0])
    assert alignment([layer], module) == ""
    assert alignment([], module) == "the file has 0 layers, the program 1"
    assert (
        alignment([Layer("linear", "x", healthy.T)], module)
        == f"{name}: the file computes [16, 64], the program [64, 16]"
    )
    stored = Layer("linear", "x", healthy.astype(np.uint8), Affine(1.0, 0))
    assert alignment([stored], module) == f"{name}: the file stores integers, the program floats"
