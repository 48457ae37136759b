"""Scheme by scheme: what is an integer, of which type and at which scale, and how far that is from float."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from levit_edge.pipeline.verify import sqnr_db
from quantize.flow import calibrate, quantize, trace
from quantize.hardswish import constant_value
from quantize.roles import LAYERS, aten, is_convolution, is_move, role, source
from quantize.scheme import Role
from targets.registry import TARGETS
from tests.programs import (
    ATTENTIONS,
    CONVS,
    DEQUANTIZE,
    DEQUANTIZE_CHANNELS,
    FULL,
    HARDSWISHES,
    LINEARS,
    QUANTIZE,
    micro,
    nodes,
    quantized,
    run,
)

NAMES = tuple(TARGETS)
MIN_SQNR_DB = 30.0  # against the float model; 8 bits everywhere would give about 50 dB in one tensor
BIAS_LIMIT = 2.0**30
_RENAMED = {aten.add.Tensor, aten.hardswish.default}  # an integer Hardswish renumbers these


def quantizers(node: fx.Node) -> list[fx.Node]:
    return [user for user in node.users if user.target == QUANTIZE]


def parameters(node: fx.Node) -> tuple[object, ...]:
    """(scale, zero point, least and greatest integer, dtype) of a quantize or dequantize node."""
    return node.args[1:]


def constant(module: fx.GraphModule, node: object) -> Tensor:
    assert isinstance(node, fx.Node)
    return constant_value(module, node)


def channel_scale(module: fx.GraphModule, node: fx.Node) -> Tensor:
    """The scale of each channel behind a dequantize_per_channel: float32 [C_out]."""
    return constant(module, node.args[1])


def layers(module: fx.GraphModule) -> Iterator[tuple[fx.Node, fx.Node, fx.Node]]:
    """(input, weight, bias) of every layer."""
    for node in module.graph.nodes:
        if node.target in LAYERS:
            x, weight, bias = node.all_input_nodes
            yield x, weight, bias


@pytest.mark.parametrize("name", NAMES)
def test_every_stored_tensor_is_quantized_exactly_once_and_no_other(name: str) -> None:
    scheme = TARGETS[name].scheme
    found = {node.name: node for node in quantized(name).module().graph.nodes}
    skipped = _RENAMED if scheme.hardswish == "integer" else set()
    checked = 0
    for node in micro().program.module().graph.nodes:
        if role(node) in (None, Role.RESIDUAL) or node.target in skipped:
            continue
        stored = role(node) in scheme.stored | (scheme.convolutions if is_convolution(node) else set())
        assert len(quantizers(found[node.name])) == stored, f"{node.name}: {role(node)}"
        readers = [user for user in found[node.name].users if user.op == "call_function"]
        assert not stored or len(readers) == 1, f"{node.name} is also read as float"
        checked += 1
    assert checked > CONVS + LINEARS + 3 * ATTENTIONS


@pytest.mark.parametrize("name", NAMES)
def test_a_float_residual_stream_is_quantized_where_layers_read_it(name: str) -> None:
    scheme = TARGETS[name].scheme
    module = quantized(name).module()
    assert scheme.float_residual
    sums = [
        node for node in nodes(module, aten.add.Tensor) if not any(a.op == "get_attr" for a in node.all_input_nodes)
    ]
    streams = [node for node in sums if any(user.target == aten.add.Tensor for user in node.users)]
    assert streams
    for node in streams:
        assert len(quantizers(node)) <= 1
    for x, _, _ in layers(module):
        assert x.target == DEQUANTIZE


@pytest.mark.parametrize("name", NAMES)
def test_moves_keep_scale_and_zero_point(name: str) -> None:
    checked = 0
    for node in quantized(name).module().graph.nodes:
        before = node.all_input_nodes[0] if is_move(node) else None
        if before is not None and before.target == DEQUANTIZE:
            (after,) = quantizers(node)
            assert parameters(after) == parameters(before)
            checked += 1
    assert checked >= 3


@pytest.mark.parametrize("name", NAMES)
def test_activations_have_the_type_and_range_of_the_scheme(name: str) -> None:
    scheme = TARGETS[name].scheme
    dtype = {"int8": torch.int8, "uint8": torch.uint8}[scheme.activation_dtype]
    low, high = {"int8": (-128, 127), "uint8": (0, 255)}[scheme.activation_dtype]
    module = quantized(name).module()
    found = [*nodes(module, QUANTIZE), *nodes(module, DEQUANTIZE)]
    assert len(found) > CONVS + LINEARS
    for node in found:
        scale, zero_point, *integers = parameters(node)
        assert integers == [low, high, dtype]
        assert isinstance(scale, float) and scale > 0
        assert isinstance(zero_point, int) and low <= zero_point <= high


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_symmetric_int8_per_channel(name: str) -> None:
    module = quantized(name).module()
    count = 0
    for _, weight, _ in layers(module):
        assert weight.target == DEQUANTIZE_CHANNELS
        integers, _, zero_points, axis, low, high, dtype = weight.args
        assert (axis, low, high, dtype) == (0, -127, 127, torch.int8)
        values, scales = constant(module, integers), channel_scale(module, weight)
        assert values.dtype == torch.int8 and int(values.min()) >= -127
        assert scales.shape == values.shape[:1] and bool((scales > 0).all())
        assert not constant(module, zero_points).any()
        count += 1
    assert count == CONVS + LINEARS


def test_integer_biases_have_exactly_the_product_of_the_scales() -> None:
    module, floats = quantized("onnx").module(), micro().program.module()
    originals = [constant(floats, bias) for _, _, bias in layers(floats)]
    found = list(layers(module))
    assert len(found) == len(originals)
    for (x, weight, bias), original in zip(found, originals, strict=True):
        integers, _, _, axis, low, high, dtype = bias.args
        assert (axis, low, high, dtype) == (0, -(2**31), 2**31 - 1, torch.int32)
        scale = channel_scale(module, bias)
        assert torch.equal(scale, torch.tensor([x.args[1]]) * channel_scale(module, weight))
        error = (constant(module, integers).double() * scale.double() - original.double()).abs()
        assert bool((error <= 0.51 * scale + 1e-6 * original.abs()).all())


@pytest.mark.parametrize("name", ["executorch", "coreml"])
def test_elsewhere_biases_stay_float(name: str) -> None:
    module = quantized(name).module()
    for _, _, bias in layers(module):
        assert bias.op == "get_attr" and constant(module, bias).dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_the_attention_bias_is_int8_per_head_where_the_scheme_says_so(name: str) -> None:
    module = quantized(name).module()
    found = [
        node.all_input_nodes[1]
        for node in nodes(module, aten.add.Tensor)
        if source(node.all_input_nodes[0]).target == aten.bmm.default
    ]
    assert len(found) == ATTENTIONS
    for bias in found:
        if TARGETS[name].scheme.constant_bias == "weight":
            assert bias.target == DEQUANTIZE_CHANNELS and bias.args[-1] == torch.int8
            assert channel_scale(module, bias).shape == constant(module, bias.args[0]).shape[:1]  # [H]
        else:
            assert bias.op == "get_attr" and constant(module, bias).dtype == torch.float32


def test_integer_hardswish_is_used_only_between_integers() -> None:
    module = quantized("onnx").module()
    products, rest = list(nodes(module, aten.mul.Tensor)), list(nodes(module, aten.hardswish.default))
    assert len(products) == HARDSWISHES - ATTENTIONS and len(rest) == ATTENTIONS
    for product in products:
        assert all(arg.target == DEQUANTIZE for arg in product.all_input_nodes) and len(quantizers(product)) == 1
    for node in rest:
        assert source(node.all_input_nodes[0]).target == aten.bmm.default


@pytest.mark.parametrize("name", NAMES)
def test_the_program_is_close_to_float_and_repeats_itself(name: str) -> None:
    program = quantized(name)
    first = run(program, micro().images)
    assert sqnr_db(micro().logits, first) >= MIN_SQNR_DB
    assert np.array_equal(first, run(program, micro().images))


@pytest.mark.parametrize("name", NAMES)
def test_quantizing_twice_gives_the_same_program_and_leaves_the_float_one(name: str) -> None:
    scene, before = micro(), micro().logits
    again = quantize(scene.program, scene.example, FULL, TARGETS[name].scheme, scene.histograms)
    assert str(again.graph) == str(quantized(name).graph)
    ours, theirs = again.state_dict, quantized(name).state_dict
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert np.array_equal(before, run(scene.program, scene.images))


class Uneven(nn.Module):
    """Two layers; of the first, one channel has weights of 1e-9, one has none at all, and all have a bias of 1."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 3)
        with torch.no_grad():
            for tensor in self.parameters():
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
            self.first.weight[0], self.first.weight[1], self.first.bias[:] = 1e-9, 0.0, 1.0

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.second(torch.nn.functional.hardswish(self.first(x)))
        return hidden


def uneven(name: str) -> tuple[Uneven, Tensor, ExportedProgram]:
    """(model, images [32, 4], quantized program)."""
    model = Uneven().eval().requires_grad_(False)
    images = torch.randn(32, 4, generator=torch.Generator().manual_seed(1))
    program = trace(model, images[:1])
    histograms = calibrate(program, [images])
    return model, images, quantize(program, images[:1], FULL, TARGETS[name].scheme, histograms)


def integer_biases(name: str) -> Tensor:
    """``bias / (s_x * s_w)`` of the first layer: float64 [8]."""
    model, _, program = uneven(name)
    module = program.module()
    x, weight, _ = next(layers(module))
    scale = x.args[1]
    assert isinstance(scale, float)
    return model.first.bias.detach().double() / (scale * channel_scale(module, weight).double())


@pytest.mark.parametrize("name", NAMES)
def test_the_integer_bias_of_vanishing_weights_does_not_overflow(name: str) -> None:
    assert float(integer_biases(name).abs().max()) <= BIAS_LIMIT * (1 + 1e-6)
    model, images, program = uneven(name)
    assert sqnr_db(model(images).numpy(), run(program, images)) > 25


@pytest.mark.parametrize("name", NAMES)
def test_without_the_floor_it_would(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantize.quantizer.bias_floor", lambda bias, scale: torch.zeros_like(bias))
    assert float(integer_biases(name).abs().max()) > 2.0**31
