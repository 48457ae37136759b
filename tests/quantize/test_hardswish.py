"""Hardswish as an integer add and an integer multiply: within one step of float over the whole integer range."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantize.flow import calibrate, quantize, trace
from quantize.hardswish import split_hardswish
from quantize.roles import aten
from quantize.scheme import Role
from targets.registry import TARGETS
from tests.programs import FULL, QUANTIZE, micro, nodes

RANGES = [(-8.0, 8.0), (-3.0, 3.0), (-1.0, 1.0), (0.0, 6.0), (-20.0, 5.0), (-6.0, 0.0), (-0.1, 40.0)]
_BOTH = frozenset({Role.GATE, Role.HARDSWISH})


class Gate(nn.Module):
    """Hardswish between two layers that give back what they get."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(1, 1), nn.Linear(1, 1)
        with torch.no_grad():
            for layer in (self.first, self.second):
                layer.weight.fill_(1.0)
                layer.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.second(F.hardswish(self.first(x)))
        return output


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("bounds", RANGES, ids=str)
def test_every_integer_gives_hardswish_within_one_step(
    dtype: Literal["int8", "uint8"], bounds: tuple[float, float]
) -> None:
    grid = torch.linspace(*bounds, 256).view(1, 256, 1)
    program = trace(Gate().eval().requires_grad_(False), grid)
    scheme = replace(TARGETS["onnx"].scheme, activation_dtype=dtype)
    recipe = replace(FULL, activation_range="minmax")
    module = quantize(program, grid, recipe, scheme, calibrate(program, [grid])).module()
    (product,) = nodes(module, aten.mul.Tensor)
    x, gate = product.all_input_nodes
    scale, zero_point = x.args[1:3]
    assert isinstance(scale, float) and isinstance(zero_point, int)
    values = (torch.arange(256).view(1, 256, 1) + scheme.quant_min - zero_point) * scale
    step = next(user for user in product.users if user.target == QUANTIZE).args[1]
    assert isinstance(step, float) and gate.args[1] == pytest.approx(6 / 255)
    error = (module(values) - F.hardswish(values)).abs()
    half_steps = step / 12 + values.abs() / 6 * (6 / 255) / 2  # of the product, and of the gate times x / 6
    assert bool((error <= half_steps * 1.01).all())
    if bounds[1] > 0:  # below zero hardswish is so small that its step is finer than the gate's
        assert float(error.max()) <= step / 6 * 1.01


@pytest.mark.parametrize(
    ("stored", "count"),
    [({Role.LAYER}, 6), ({Role.CONTEXT}, 3), ({Role.LAYER, Role.CONTEXT}, 9), ({Role.IMAGE}, 0)],
    ids=["layers", "contexts", "layers and contexts", "images"],
)
def test_only_what_lies_between_stored_tensors_is_rewritten(stored: set[Role], count: int) -> None:
    module = micro().program.module()
    renamed = split_hardswish(module, stored | _BOTH | {Role.FIRST})
    assert len(renamed) == count
    assert len(list(nodes(module, aten.hardswish.default))) == 9 - count
    assert all(old.startswith("hardswish") for old in renamed.values())


@pytest.mark.parametrize("missing", sorted(_BOTH))
def test_without_a_stored_gate_and_product_nothing_is_rewritten(missing: Role) -> None:
    module = micro().program.module()
    assert split_hardswish(module, (_BOTH - {missing}) | {Role.LAYER}) == {}
    assert len(list(nodes(module, aten.hardswish.default))) == 9


def test_the_rewritten_graph_still_passes_its_own_check() -> None:
    module = micro().program.module()
    split_hardswish(module, _BOTH | {Role.LAYER})
    module.graph.lint()
    for node in nodes(module, aten.mul.Tensor):
        assert node.meta["val"].shape == node.all_input_nodes[0].meta["val"].shape
