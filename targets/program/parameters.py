"""The scales, zero points and constants that a program states, by the layer that they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torchao.quantization.pt2e  # noqa: F401  # registers the quantize and dequantize operators
from numpy.typing import NDArray
from torch import Tensor, float64, fx, ops, tensor
from torch.export import ExportedProgram

from quantize.hardswish import constant_value
from quantize.observers import WEIGHT_MAX
from quantize.roles import LAYERS, is_constant, is_move
from targets.program.replay import is_layer_node, layer_name

_quantized = ops.quantized_decomposed
_QUANTIZE = (_quantized.quantize_per_tensor.default, _quantized.quantize_per_channel.default)
_DEQUANTIZE = (_quantized.dequantize_per_tensor.default, _quantized.dequantize_per_channel.default)
WEIGHT_DTYPE = "int8"
_OPERANDS = {1: "weight", 2: "bias"}

Key = tuple[str, str]
V = TypeVar("V")


@dataclass(frozen=True)
class Activation:
    """How one tensor is stored; ``zero_point`` is one of the integers of the program, ``lowest`` to ``highest``."""

    scale: float
    zero_point: int
    lowest: int
    highest: int

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest real number that it can hold."""
        return self.scale * (self.lowest - self.zero_point), self.scale * (self.highest - self.zero_point)


@dataclass(frozen=True)
class Constant:
    """``integers`` less their zero point, and ``scale`` [C] or [1] with which they stand for real numbers along axis 0.

    A constant that is float has its ``values`` and no ``scale``. ``dtype`` is that of the program: int8, float32.
    """

    values: NDArray[Any]
    dtype: str
    scale: NDArray[np.float64] | None = None

    @property
    def form(self) -> str:
        """Type and shape: ``int8 [64, 32]``."""
        return f"{self.dtype} {list(self.values.shape)}"

    @property
    def steps(self) -> NDArray[np.float64]:
        """``scale`` in a shape that fits to ``values``; only where there is one."""
        assert self.scale is not None
        return self.scale.reshape(-1, *(1,) * (self.values.ndim - 1))  # [C] -> [C, 1, ...]


@dataclass(frozen=True)
class Parameters:
    """``layers`` in the order of execution. A key is the name of a layer and what it is of that layer.

    ``activations`` are an ``output``, an ``input`` (of the first layer that reads it), or carry the name of the
    operator that gives them. ``constants`` are a ``weight``, a ``bias``, or carry the name of the operator that reads
    them.
    """

    layers: tuple[str, ...]
    activations: dict[Key, Activation]
    constants: dict[Key, Constant]


def parameters(program: ExportedProgram) -> Parameters:
    """Everything that the quantize and dequantize operators of ``program`` state, and the values of its constants."""
    module = program.module()
    assert isinstance(module, fx.GraphModule)
    nodes = list(module.graph.nodes)
    return Parameters(
        layers=tuple(layer_name(node) for node in nodes if is_layer_node(node)),
        activations=_numbered((_activation_key(node), _activation(node)) for node in _stored(nodes)),
        constants=_numbered(
            (_constant_key(node), _constant(module, node)) for node in nodes if is_constant(node) and _readers(node)
        ),
    )


def stored_ranges(program: ExportedProgram) -> dict[str, tuple[float, float]]:
    """The (lowest, highest) real number that each tensor of ``program`` can hold as an integer, by ``layer tensor``.

    Of a constant with a scale for each channel it is that of the widest channel. Biases are left out: their scale is
    the product of two others. Rounded to seven digits, which a float32 has.
    """
    found = parameters(program)
    ranges = {" ".join(key): activation.range for key, activation in found.activations.items()}
    for key, constant in found.constants.items():
        if constant.scale is not None and constant.dtype == WEIGHT_DTYPE:
            widest = float(np.max(constant.scale)) * WEIGHT_MAX
            ranges[" ".join(key)] = -widest, widest
    return {name: (float(f"{low:.7g}"), float(f"{high:.7g}")) for name, (low, high) in ranges.items()}


def _numbered(entries: Iterator[tuple[Key, V]]) -> dict[Key, V]:
    """A second entry of the same key gets a number: ``(stem.1, add 2)``."""
    found: dict[Key, V] = {}
    for (layer, what), value in entries:
        number = 1 + sum(key[0] == layer and key[1].split(" ")[0] == what for key in found)
        found[layer, what if number == 1 else f"{what} {number}"] = value
    return found


def _stored(nodes: list[fx.Node]) -> Iterator[fx.Node]:
    """The operators that state how a tensor is stored, each statement once.

    Moves, several readers, and the two ends of a pair state the same again; where one of them does not, it counts.
    """
    seen = set[tuple[fx.Node, tuple[object, ...]]]()
    for node in nodes:
        if node.target == _QUANTIZE[0] or (node.target == _DEQUANTIZE[0] and not is_constant(node.args[0])):
            entry = _producer(node), tuple(node.args[1:])
            if entry not in seen:
                yield node
            seen.add(entry)


def _activation(node: fx.Node) -> Activation:
    scale, *integers = node.args[1:5]
    assert isinstance(scale, float)
    zero_point, lowest, highest = (number for number in integers if isinstance(number, int))
    return Activation(scale, zero_point, lowest, highest)


def _activation_key(node: fx.Node) -> Key:
    producer = _producer(node)
    if is_layer_node(producer):
        return layer_name(producer), "output"
    layers = [reader for reader in _readers(node) if is_layer_node(reader)]
    return (layer_name(layers[0]), "input") if layers else _key_by_operator(producer)


def _constant_key(constant: fx.Node) -> Key:
    reader = _readers(constant)[0]
    if reader.target in LAYERS:
        operands = [_producer(operand) for operand in reader.all_input_nodes]
        return layer_name(reader), _OPERANDS.get(operands.index(constant), "input")
    return _key_by_operator(reader)


def _key_by_operator(node: fx.Node) -> Key:
    """For what no layer reads or gives: the first layer behind it, and the kind of the operator."""
    pending = [node]
    for found in pending:  # in the order of distance
        if is_layer_node(found):
            return layer_name(found), _kind(node)
        pending += [user for user in found.users if user not in pending]
    return "end of the model", _kind(node)


def _kind(node: fx.Node) -> str:
    """``add`` for ``aten.add.Tensor``."""
    return str(node.target).split(".")[-2] if node.op == "call_function" else node.name


def _producer(node: fx.Node) -> fx.Node:
    """The operator or constant whose values ``node`` stores or rearranges."""
    while is_move(node) or node.target in (*_QUANTIZE, *_DEQUANTIZE):
        node = node.all_input_nodes[0]
    return node


def _readers(node: fx.Node) -> list[fx.Node]:
    """The operators that compute with ``node``, looking through moves and storage; none for a scale or zero point."""
    found: list[fx.Node] = []
    for user in node.users:
        if is_move(user) or user.target in (*_QUANTIZE, *_DEQUANTIZE):
            found += _readers(user) if user.all_input_nodes[0] is node else []
        elif user.op == "call_function":
            found.append(user)
    return found


def _constant(module: fx.GraphModule, node: fx.Node) -> Constant:
    values = constant_value(module, node).detach()
    dtype, (user, *_) = str(values.dtype).removeprefix("torch."), node.users
    if user.target not in _DEQUANTIZE:
        return Constant(values.numpy(), dtype)
    scale, zero_point = (_tensor(module, argument) for argument in user.args[1:3])
    if zero_point.any():
        values = values.int() - zero_point.int().reshape(-1, *(1,) * (values.dim() - 1))  # [C] -> [C, 1, ...]
    return Constant(values.numpy(), dtype, scale.double().reshape(-1).numpy())


def _tensor(module: fx.GraphModule, argument: object) -> Tensor:
    """[C], or [1] for a number that stands in the graph itself."""
    return constant_value(module, argument) if isinstance(argument, fx.Node) else tensor([argument], dtype=float64)
