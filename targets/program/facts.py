"""The constants of an exported program, as :mod:`targets.program.constants` compares them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from quantize.roles import LAYERS
from targets.program.constants import Array, Fact, Graph, Step, floats, integers, quantization, stored_integers
from targets.program.replay import is_layer_node

# How a target stores a float of the program, where it does not keep float32.
Rounding = Callable[[Tensor], Tensor]


def program_graph(program: ExportedProgram, rounded: Rounding | None = None, *, integer_bias: bool = False) -> Graph:
    """The steps of ``program`` with its constants as a target stores them.

    ``rounded`` is what the target stores instead of a float tensor. ``integer_bias``: it quantizes the float bias of an
    integer layer, see :func:`stored_bias`.
    """
    reader = _Reader(_constants(program), rounded or (lambda tensor: tensor), integer_bias)
    (output,) = [node for node in program.graph.nodes if node.op == "output"]
    steps = tuple(reader.step(node) for node in program.graph.nodes if node.op != "output")
    return Graph(steps, output.all_input_nodes[0].name)


def stored_bias(bias: Tensor, weight_scales: Tensor, input_scale: float) -> tuple[Tensor, Tensor]:
    """(int32 [C], their scales float32 [C]): a float bias [C] with the scales of the products that it is added to.

    As ExecuTorch's XNNPACK backend does it (operators/quant_params.py, ``QuantParams.from_bias``).
    """
    scales = weight_scales * input_scale
    zeros = torch.zeros_like(scales, dtype=torch.int64)
    quantize = torch.ops.quantized_decomposed.quantize_per_channel.default
    lowest, highest = torch.iinfo(torch.int32).min, torch.iinfo(torch.int32).max
    return quantize(bias, scales, zeros, 0, lowest, highest, torch.int32), scales


def integer_bias_parts(layer: fx.Node) -> tuple[fx.Node, fx.Node, float] | None:
    """(bias, scales of the weight, scale of the input) of an integer layer whose bias is float; None for others."""
    operators = torch.ops.quantized_decomposed
    if layer.target not in LAYERS or len(layer.args) < 3:
        return None
    x, weight, bias = layer.args[:3]
    if not (isinstance(x, fx.Node) and isinstance(weight, fx.Node) and isinstance(bias, fx.Node)):
        return None
    if x.target != operators.dequantize_per_tensor.default:
        return None
    if weight.target != operators.dequantize_per_channel.default or bias.op not in ("placeholder", "get_attr"):
        return None
    scales, input_scale = weight.args[1], x.args[1]
    assert isinstance(scales, fx.Node) and isinstance(input_scale, float)
    return bias, scales, input_scale


class _Reader:
    """Reads one program from its first node to its last."""

    def __init__(self, constants: Mapping[str, Tensor], rounded: Rounding, integer_bias: bool) -> None:
        self._constants, self._rounded, self._integer_bias = constants, rounded, integer_bias

    def step(self, node: fx.Node) -> Step:
        reads = tuple(parent.name for parent in node.all_input_nodes)
        return Step(reads, (node.name,), self._facts(node), is_layer_node(node))

    def _facts(self, node: fx.Node) -> tuple[Fact, ...]:
        operators = torch.ops.quantized_decomposed
        if node.target == operators.dequantize_per_channel.default:
            parts, axis = [self._stored(parent) for parent in node.all_input_nodes], node.args[3]
            assert isinstance(axis, int)
            return integers(parts[0], parts[1], parts[2], axis)
        if node.target in (operators.quantize_per_tensor.default, operators.dequantize_per_tensor.default):
            scale, zero_point, lowest = node.args[1:4]
            assert isinstance(scale, float) and isinstance(zero_point, int) and isinstance(lowest, int)
            return quantization(self._rounded(torch.tensor(scale)).item(), zero_point, lowest)
        if self._integer_bias and (found_parts := integer_bias_parts(node)) is not None:
            bias, scales, input_scale = found_parts
            found, steps = stored_bias(self._constants[bias.name], self._constants[scales.name], input_scale)
            return integers(found.numpy(), steps.numpy(), np.zeros(len(found)), 0)
        return self._constant_facts(node)

    def _constant_facts(self, node: fx.Node) -> tuple[Fact, ...]:
        """The facts of a constant that is stored as it is."""
        if node.name not in self._constants or not self._is_stored_alone(node):
            return ()
        values = self._stored(node)
        return floats(values) if np.issubdtype(values.dtype, np.floating) else (stored_integers(values),)

    def _is_stored_alone(self, node: fx.Node) -> bool:
        """False where the facts of the operators that read a constant describe it."""
        per_channel = torch.ops.quantized_decomposed.dequantize_per_channel.default
        for user in node.users:
            parts = integer_bias_parts(user) if self._integer_bias else None
            if user.target != per_channel and (parts is None or node not in parts):
                return True
        return False

    def _stored(self, node: fx.Node) -> Array:
        tensor = self._constants[node.name].detach()
        return np.asarray((self._rounded(tensor) if tensor.is_floating_point() else tensor).numpy())


def _constants(program: ExportedProgram) -> dict[str, Tensor]:
    """Every constant by the name of its node in the graph."""
    signature, stored = program.graph_signature, {**program.state_dict, **program.constants}
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    return {node: stored[name] for node, name in names.items()}
