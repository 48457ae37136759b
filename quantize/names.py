"""What the tensors of a program are called: by the layer that they belong to, and what they are of that layer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from typing import NamedTuple, TypeVar

import torchao.quantization.pt2e  # noqa: F401  # registers the quantize and dequantize operators
from torch import fx, ops

from levit_edge.errors import InputError
from levit_edge.wording import listed
from quantize.roles import LAYERS, PRODUCTS, is_layer, is_move

_quantized = ops.quantized_decomposed
QUANTIZE = (_quantized.quantize_per_tensor.default, _quantized.quantize_per_channel.default)
DEQUANTIZE = (_quantized.dequantize_per_tensor.default, _quantized.dequantize_per_channel.default)
WHOLE_LAYER = "layer"
_OPERANDS = {1: "weight", 2: "bias"}

Key = tuple[str, str]
"""(name of a layer, what of it): its ``weight``, ``bias``, ``input`` or ``output``, or the operator on the way."""

V = TypeVar("V")


def is_layer_node(node: fx.Node) -> bool:
    """True for a convolution, a linear layer or a matrix product."""
    return node.target in (*LAYERS, *PRODUCTS)


def layer_name(node: fx.Node) -> str:
    """Where the layer is in the model, such as ``blocks.1.down``; a matrix product adds the name of its node."""
    owners = list(node.meta.get("nn_module_stack", {}).values())
    owner = owners[-1][0] if owners else ""
    if node.target in LAYERS and owner:
        return str(owner)
    return f"{owner}.{node.name}" if owner else node.name


def activation_key(nodes: Sequence[fx.Node]) -> Key:
    """Of the operators that store one computed tensor: it is the output of a layer, the input of one, or in between."""
    tensor = producer(nodes[0])
    if is_layer_node(tensor):
        return layer_name(tensor), "output"
    layers = {reader for node in nodes for reader in readers(node) if is_layer_node(reader)}
    first = next((node for node in tensor.graph.nodes if node in layers), None)
    return _key_by_operator(tensor) if first is None else (layer_name(first), "input")


def constant_key(constant: fx.Node) -> Key:
    """Of a parameter or buffer that an operator computes with."""
    reader = readers(constant)[0]
    if reader.target in LAYERS:
        operands = [producer(operand) for operand in reader.all_input_nodes]
        return layer_name(reader), _OPERANDS.get(operands.index(constant), "input")
    return _key_by_operator(reader)


class Kept(NamedTuple):
    """What a recipe keeps float by name: tensors, by the operators that compute them, and whole layers."""

    tensors: frozenset[fx.Node]
    layers: frozenset[fx.Node]


def find_kept(graph: fx.Graph, names: Collection[str]) -> Kept:
    """What ``names`` name in a program without storage: ``stem.0 output`` is a tensor, ``stem.0 layer`` a layer.

    InputError for a name that nothing has.
    """
    computed = [node for node in graph.nodes if node.op in ("placeholder", "call_function") and not is_move(node)]
    tensors: dict[str, set[fx.Node]] = {}
    for node in computed if names else ():
        if readers(node) or is_layer_node(node):
            tensors.setdefault(" ".join(activation_key([node])), set()).add(node)
    layers: dict[str, set[fx.Node]] = {}
    for node in filter(is_layer, graph.nodes):
        layers.setdefault(f"{layer_name(node)} {WHOLE_LAYER}", set()).add(node)
    for name in names:
        if name.split(" ")[-1] in _OPERANDS.values():
            raise InputError(f"{name!r} cannot be kept float by itself; name its layer, or the input of it")
        if name not in {**tensors, **layers}:
            near = listed(get_close_matches(name, {**tensors, **layers}, n=3) or sorted(tensors)[:3], 3)
            raise InputError(f"the model has no tensor {name!r}; near: {near}; `levit-edge sensitivity` shows them")
    return Kept(*(frozenset(node for name in names for node in found.get(name, ())) for found in (tensors, layers)))


def numbered(entries: Iterable[tuple[Key, V]]) -> dict[Key, V]:
    """A second entry of the same key gets a number: ``(stem.1, add 2)``."""
    found: dict[Key, V] = {}
    for (layer, what), value in entries:
        number = 1 + sum(key[0] == layer and key[1].split(" ")[0] == what for key in found)
        found[layer, what if number == 1 else f"{what} {number}"] = value
    return found


def producer(node: fx.Node) -> fx.Node:
    """The operator or constant whose values ``node`` stores or rearranges."""
    while is_move(node) or _is_storage(node):
        node = node.all_input_nodes[0]
    return node


def readers(node: fx.Node) -> list[fx.Node]:
    """The operators that compute with ``node``, looking through moves and storage; none for a scale or zero point."""
    found: list[fx.Node] = []
    for user in node.users:
        if is_move(user) or _is_storage(user):
            found += readers(user) if user.all_input_nodes[0] is node else []
        elif user.op == "call_function":
            found.append(user)
    return found


def _is_storage(node: fx.Node) -> bool:
    """True for an operator that only stores a tensor, and for an observer, which stands for one."""
    return node.target in (*QUANTIZE, *DEQUANTIZE) or node.op == "call_module"


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
