"""What a quantized program states about its layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.export import ExportedProgram

from quantize.flow import trace
from targets.program import replay
from targets.program.parameters import Activation, parameters, stored_ranges
from targets.registry import TARGETS
from tests.programs import DEQUANTIZE, QUANTIZE, micro, nodes, quantized

IMAGE = micro().images[:1].numpy()


@pytest.mark.parametrize("name", TARGETS)
def test_the_output_of_a_layer_is_what_the_replay_of_the_program_stores(name: str) -> None:
    found, layers = parameters(quantized(name)), replay.tap(quantized(name), IMAGE)
    assert found.layers == tuple(layer.name for layer in layers)
    lowest = -128 if TARGETS[name].scheme.activation_dtype == "int8" else 0
    stored = {
        layer.name: Activation(layer.affine.scale, layer.affine.zero_point + lowest, lowest, lowest + 255)
        for layer in layers
        if layer.affine
    }
    outputs = {layer: value for (layer, tensor), value in found.activations.items() if tensor == "output"}
    # A replay reads no integers where several operators store one layer; here they all store it alike.
    assert stored.items() <= outputs.items() and len(stored) >= 9
    assert ("stem.0", "input") in found.activations and ("head", "input") in found.activations


@pytest.mark.parametrize("name", TARGETS)
def test_the_weights_are_those_of_the_float_model_within_half_a_step(name: str) -> None:
    constants = parameters(quantized(name)).constants
    floats = micro().model.state_dict()
    weights = {layer: constant for (layer, what), constant in constants.items() if what == "weight"}
    assert {f"{layer}.weight" for layer in weights} == {key for key in floats if key.endswith(".weight")}
    for layer, constant in weights.items():
        real, expected = constant.values * constant.steps, floats[f"{layer}.weight"].numpy()
        scaled = min(np.abs(real - expected / factor).max() / constant.steps.max() for factor in (1, 6))
        assert constant.dtype == "int8" and scaled <= 0.501  # a weight behind an integer Hardswish is divided by 6


@pytest.mark.parametrize("name", TARGETS)
def test_the_ranges_are_those_of_the_images_and_the_weights(name: str) -> None:
    ranges, floats = stored_ranges(quantized(name)), micro().model.state_dict()
    for layer in ("stem.0", "head"):  # no Hardswish is folded into their weights
        widest = float(floats[f"{layer}.weight"].abs().max())
        assert ranges[f"{layer} weight"] == pytest.approx((-widest, widest), rel=1e-6)
    low, high = ranges["stem.0 input"]
    assert (
        low <= float(micro().images.min()) * 0.3 and float(micro().images.max()) * 0.3 <= high
    )  # clipped at most so far
    assert all(low <= 0 <= high for low, high in ranges.values())
    assert not [tensor for tensor in ranges if tensor.endswith("bias")]
    assert stored_ranges(micro().program) == {}


def test_a_float_program_has_constants_and_no_scales() -> None:
    found = parameters(micro().program)
    assert found.activations == {} and all(constant.scale is None for constant in found.constants.values())
    assert found.constants["head", "weight"].form == "float32 [3, 64]"
    bias = found.constants["blocks.0.q", "bias"].values
    assert np.array_equal(bias, micro().model.state_dict()["blocks.0.q.bias"].numpy())


def _changed(program: ExportedProgram, target: object, index: int) -> ExportedProgram:
    """A copy where one operator states twice the scale."""
    module = program.module()
    node = list(nodes(module, target))[index]
    value, scale, *rest = node.args
    node.args = (value, scale * 2, *rest)
    return trace(module, micro().example)


@pytest.mark.parametrize("target", [QUANTIZE, DEQUANTIZE], ids=["quantize", "dequantize"])
def test_an_operator_that_states_another_scale_than_its_partner_is_seen(target: object) -> None:
    healthy = quantized("executorch")
    before, after = parameters(healthy).activations, parameters(_changed(healthy, target, 3)).activations
    added = {key: value for key, value in after.items() if key not in before}
    ((layer, tensor),) = added
    assert tensor.endswith(" 2")
    scales = {before[layer, tensor.removesuffix(" 2")].scale * factor for factor in (1, 2)}
    assert {after[layer, tensor.removesuffix(" 2")].scale, added[layer, tensor].scale} == scales


def test_a_bias_that_is_missing_and_a_constant_that_a_product_reads() -> None:
    class Small(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 2, 1, bias=False)
            self.shift = torch.nn.Parameter(torch.ones(2, 1, 1))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.conv(image * 2) + self.shift

    found = parameters(trace(Small().eval(), torch.zeros(1, 3, 4, 4)))
    assert set(found.constants) == {("conv", "weight"), ("end of the model", "add")}
