"""A graph with operators that have no role: node by node, what is an integer and what stays float."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.nn import functional as F

from levit_edge.pipeline.verify import sqnr_db
from quantize.flow import calibrate, quantize, trace
from quantize.roles import aten, is_layer, is_move, layer_operands, role
from quantize.scheme import Role
from targets.registry import TARGETS
from tests.programs import DEQUANTIZE, DEQUANTIZE_CHANNELS, FULL, QUANTIZE, nodes, run
from tests.quantize.foreign import HEADS, foreign, foreign_quantized

NAMES = tuple(TARGETS)

# A tensor of normally distributed values keeps about 40 dB in 8 bits, and so does a weight. Here some 30 of them add
# their errors: 40 - 10 * log10(30) is 25 dB. A wrong range, such as a clamp to [0, 6], leaves less than 15 dB.
MIN_SQNR_DB = 25.0
ONE_LAYER_SQNR_DB = 30.0  # five tensors and weights: about 40 - 10 * log10(5) = 33

ROLES = {
    "conv2d": Role.LAYER,
    "linear": Role.QUERIES,
    "linear_1": Role.KEYS,
    "linear_2": Role.VALUES,
    "matmul": Role.SCORES,
    "add_1": Role.BIASED_SCORES,
    "softmax": Role.SOFTMAX,
    "matmul_1": Role.CONTEXT,
    "linear_3": Role.BRANCH,
    "add_2": Role.RESIDUAL,
    "linear_4": Role.LAYER,  # q, k and v in one
    "scaled_dot_product_attention": Role.CONTEXT,
    "linear_5": Role.BRANCH,
    "add_3": Role.RESIDUAL,
    "linear_6": Role.LAYER,  # up
    "linear_7": Role.BRANCH,
    "add_4": Role.RESIDUAL,
    "linear_8": Role.LAYER,  # gate
    "mean_1": Role.POOLED,
    "linear_9": Role.LAYER,
    "add_6": Role.RESIDUAL,
    "linear_10": Role.LOGITS,
}

# Float tensors that a layer reads; flatten_1 and reshape move an attention's output.
ON_THE_WAY_INTO_A_LAYER = {
    "div", "layer_norm", "flatten_1", "layer_norm_1", "reshape", "layer_norm_2", "gelu", "add_4", "add_6",
}  # fmt: skip
STORED = {"conv2d", "linear_4", "linear_6", "linear_8", "linear_9", "mean_1"}
ALSO_STORED = {
    "executorch": {"linear", "linear_1", "linear_2", "linear_3", "linear_5", "linear_7", "linear_10"},
    "coreml": set[str](),
    "onnx": set[str](),
}


def layers(module: fx.GraphModule) -> list[fx.Node]:
    return [node for node in module.graph.nodes if node.target in (aten.conv2d.default, aten.linear.default)]


def integer_program(model: nn.Module, images: Tensor, name: str) -> ExportedProgram:
    """``model`` in int8 for the target ``name``, calibrated on ``images``, which it takes one at a time."""
    program = trace(model.eval().requires_grad_(False), images[:1])
    histograms = calibrate(program, [images])
    return quantize(program, images[:1], FULL, TARGETS[name].scheme, histograms)


def test_only_what_the_graph_proves_has_a_role() -> None:
    found = {node.name: role(node) for node in foreign().program.module().graph.nodes}
    assert {name: kind for name, kind in found.items() if kind is not None} == ROLES


@pytest.mark.parametrize("name", NAMES)
def test_stored_tensors_and_what_layers_read_are_integers_and_nothing_else(name: str) -> None:
    quantized = {node.all_input_nodes[0] for node in nodes(foreign_quantized(name).module(), QUANTIZE)}
    moved = {node for node in quantized if is_move(node) and node.all_input_nodes[0].target == DEQUANTIZE}
    assert {node.name for node in quantized - moved} == ON_THE_WAY_INTO_A_LAYER | STORED | ALSO_STORED[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_computes_in_integers_with_or_without_a_bias(name: str) -> None:
    module, without = foreign_quantized(name).module(), []
    for layer in layers(module):
        x, weight, bias = layer_operands(layer)
        assert x.target == DEQUANTIZE and weight.target == DEQUANTIZE_CHANNELS
        if TARGETS[name].scheme.required:  # its integer kernels give integers only
            assert [user.target for user in layer.users] == [QUANTIZE]
        if bias is None:
            without.append(layer.name)
        elif TARGETS[name].scheme.integer_bias:
            assert bias.target == DEQUANTIZE_CHANNELS and bias.args[-1] == torch.int32
        else:
            assert bias.op == "get_attr"
    assert without == ["conv2d", "linear_1", "linear_10"]


@pytest.mark.parametrize("name", NAMES)
def test_no_constant_but_weights_and_the_attention_bias_is_quantized(name: str) -> None:
    module = foreign_quantized(name).module()
    floats = 0
    for node in module.graph.nodes:
        if node.target in (DEQUANTIZE_CHANNELS, QUANTIZE, DEQUANTIZE) or node.op != "call_function":
            continue
        dequantized = [arg for arg in node.all_input_nodes if arg.target == DEQUANTIZE_CHANNELS]
        floats += sum(arg.op == "get_attr" for arg in node.all_input_nodes)
        if node.name == "add_1" and TARGETS[name].scheme.constant_bias == "weight":
            assert len(dequantized) == 1
            scales = next(arg for arg in dequantized[0].all_input_nodes[1:])
            assert scales.meta["val"].shape == (HEADS,)
        elif node.target not in (aten.conv2d.default, aten.linear.default):
            assert not dequantized, node.name
    assert floats >= 4 * 2 + 2  # of each LayerNorm two, the positions and the three


@pytest.mark.parametrize("name", NAMES)
def test_the_program_is_close_to_float_and_repeats_itself(name: str) -> None:
    program, images = foreign_quantized(name), foreign().images
    assert sqnr_db(foreign().logits, run(program, images)) >= MIN_SQNR_DB
    assert np.array_equal(run(program, images), run(program, images))
    for node in nodes(program.module(), QUANTIZE):
        assert node.args[1] != pytest.approx(6 / 255)


@pytest.mark.parametrize("name", NAMES)
def test_weights_only_quantizes_the_weights_of_layers_and_the_attention_bias(name: str) -> None:
    module = foreign_quantized(name, "w8a16").module()
    assert not list(nodes(module, QUANTIZE))
    readers = [user for node in nodes(module, DEQUANTIZE_CHANNELS) for user in node.users]
    assert sorted(node.name for node in readers) == sorted(["add_1", *(layer.name for layer in layers(module))])
    assert sqnr_db(foreign().logits, run(foreign_quantized(name, "w8a16"), foreign().images)) >= 35


class Shifted(nn.Module):
    """``x * (x + 3)`` between two layers: the form of an integer Hardswish, but what is meant is a parabola."""

    three: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 4)
        self.register_buffer("three", torch.tensor([3.0]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        output: Tensor = self.second(x * (x + self.three))
        return output


def random(model: nn.Module, scale: float = 1.0) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.dim() > 1:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * scale)
    return model


def inputs(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def expected(model: nn.Module, images: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    with torch.no_grad():
        return torch.cat([model(image) for image in images.split(1)]).numpy()


@pytest.mark.parametrize("name", NAMES)
def test_a_shift_by_three_that_a_product_reads_is_not_clamped(name: str) -> None:
    model, images = random(Shifted(), 2.0), inputs(32, 8)
    program = integer_program(model, images, name)
    module = program.module()
    (add,), (mul,) = nodes(module, aten.add.Tensor), nodes(module, aten.mul.Tensor)
    assert [user.target for user in add.users] == [aten.mul.Tensor]
    assert add.all_input_nodes[1].op == "get_attr"
    assert [user.target for user in mul.users] == [QUANTIZE]  # for the second layer
    assert float((model.first(images) + 3).max()) > 12  # twice what the clamp of a Hardswish lets through
    assert sqnr_db(expected(model, images), run(program, images)) >= ONE_LAYER_SQNR_DB


class Tied(nn.Module):
    """One layer that reads two tensors of different size."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.layer(torch.tanh(self.layer(x)) / 100)
        return output


class OfConstants(nn.Module):
    """Layers whose input or weight is not what an integer kernel takes."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.register_buffer("table", torch.ones(3, 8))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.layer(self.table))  # [1, 3]


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_that_is_used_twice_keeps_one_weight(name: str) -> None:
    model, images = random(Tied(), 0.4), inputs(32, 8)
    program = integer_program(model, images, name)
    weights = {layer_operands(layer)[1].args for layer in layers(program.module())}
    assert len(weights) == 1
    assert sqnr_db(expected(model, images), run(program, images)) >= ONE_LAYER_SQNR_DB


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_of_constants_or_with_a_computed_weight_stays_float(name: str) -> None:
    model, images = random(OfConstants(), 0.4), inputs(4, 8)
    program = integer_program(model, images, name)
    assert not any(is_layer(node) for node in trace(model, images[:1]).module().graph.nodes)
    assert np.array_equal(expected(model, images), run(program, images))


class Scores(nn.Module):
    """q @ k with a constant added, in front of a softmax. [1, 4, 8] -> [1, 2, 4, 4]."""

    constant: Tensor

    def __init__(self, constant: Tensor) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(8, 8), nn.Linear(8, 8)
        self.register_buffer("constant", constant)

    def forward(self, x: Tensor) -> Tensor:
        q, k = (layer(x).unflatten(2, (2, 4)).transpose(1, 2) for layer in (self.q, self.k))  # [1, H, N, D]
        return (q @ k.transpose(2, 3) + self.constant).softmax(dim=-1)


@pytest.mark.parametrize(
    ("constant", "quantized"),
    [
        (lambda: torch.linspace(-1, 1, 32).view(2, 4, 4), True),
        (lambda: torch.linspace(-1, 1, 32).view(1, 2, 4, 4), False),  # its first axis is not the heads
        (lambda: torch.ones(4, 4), False),
        (lambda: torch.full((2, 4, 4), -torch.inf).triu(1), False),
    ],
    ids=["per head", "with a batch axis", "for all heads", "a mask"],
)
def test_only_a_finite_bias_of_each_head_has_scales_of_its_own(constant: Callable[[], Tensor], quantized: bool) -> None:
    model, images = random(Scores(constant()), 0.3), inputs(8, 4, 8)
    model.get_buffer("constant").copy_(constant())
    program = integer_program(model, images, "coreml")
    (add,) = nodes(program.module(), aten.add.Tensor)
    assert (add.all_input_nodes[1].target == DEQUANTIZE_CHANNELS) is quantized
    assert sqnr_db(expected(model, images), run(program, images)) >= ONE_LAYER_SQNR_DB


class InPlace(nn.Module):
    """A BatchNorm behind a convolution, and an activation that overwrites what a later operator reads again."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 1)
        with torch.no_grad():
            self.norm.running_var.fill_(0.01)  # what the layer gives grows tenfold

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x))  # [1, 3, H, W] -> [1, 4, H - 2, W - 2]
        output: Tensor = x + self.second(F.relu(x, inplace=True))
        return output


@pytest.mark.parametrize("name", NAMES)
def test_batch_norms_and_operators_in_place_change_no_range(name: str) -> None:
    model, images = random(InPlace(), 0.3), inputs(16, 3, 8, 8)
    program = integer_program(model, images, name)
    assert sqnr_db(expected(model, images), run(program, images)) >= ONE_LAYER_SQNR_DB
