"""The constants of an exported program, as :mod:`targets.program.constants` compares them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from quantize.names import is_layer_node
from targets.program.constants import Array, Fact, Graph, Step, floats, integers, quantization, stored_integers

# How a target stores a float of the program, where it does not keep float32.
Rounding = Callable[[Tensor], Tensor]
# (the bias, its facts) of a layer whose float bias a target stores as integers, from the constants of the program by
# the name of their node; None for any other node.
BiasFacts = Callable[[fx.Node, Mapping[str, Tensor]], tuple[fx.Node, tuple[Fact, ...]] | None]


def program_graph(
    program: ExportedProgram, rounded: Rounding | None = None, bias_facts: BiasFacts | None = None
) -> Graph:
    """The steps of ``program`` with its constants as a target stores them.

    ``rounded`` is what the target stores instead of a float tensor, and ``bias_facts`` what it stores instead of the
    float bias of an integer layer; without them it stores what the program has.
    """
    reader = _Reader(_constants(program), rounded or (lambda tensor: tensor), bias_facts or (lambda *_: None))
    (output,) = [node for node in program.graph.nodes if node.op == "output"]
    steps = tuple(reader.step(node) for node in program.graph.nodes if node.op != "output")
    return Graph(steps, output.all_input_nodes[0].name)


class _Reader:
    """Reads one program from its first node to its last."""

    def __init__(self, constants: Mapping[str, Tensor], rounded: Rounding, bias_facts: BiasFacts) -> None:
        self._constants, self._rounded, self._bias_facts = constants, rounded, bias_facts

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
        if (bias := self._bias_facts(node, self._constants)) is not None:
            return bias[1]
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
            bias = self._bias_facts(user, self._constants)
            if user.target != per_channel and (bias is None or bias[0] is not node):
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
