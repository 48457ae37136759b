"""A prepared program in which each stored tensor can be rounded or passed on.

The prepared program has an observer at each place where a tensor becomes integers. Here each of them can round its
tensor or pass it on, so one program computes the float model, the quantized one, and everything in between. Of a run in
which one tensor changes, only what depends on that tensor is computed; the rest comes from the run before.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx
from torchao.quantization.pt2e import DerivedObserverOrFakeQuantize

from quantize.hardswish import GATE_MAX, constant_value
from quantize.names import Key, activation_key, constant_key, is_layer_node, numbered, producer, readers
from quantize.observers import ActivationObserver, PerChannelWeightObserver
from quantize.roles import LAYERS, is_constant, role, source
from quantize.scheme import Role

Kind = Literal["activation", "weight"]
Values = MutableMapping[fx.Node, Any]
Change = Callable[[Tensor], Tensor]

_quantize = torch.ops.quantized_decomposed.quantize_per_channel.default
_dequantize = torch.ops.quantized_decomposed.dequantize_per_channel.default

PER_CHANNEL = "per channel"  # layers that share a weight share its scales


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that the program stores as integers. ``nodes`` are its observers, of which several readers need several.

    ``elements`` counts the values of one image, or those of the weight; ``macs`` are the multiply-adds of one image in
    the layers that read it.
    """

    key: Key
    kind: Kind
    nodes: frozenset[fx.Node]
    elements: int
    macs: int


def batch_size(prepared: fx.GraphModule) -> int:
    """Images that one run of ``prepared`` computes."""
    (image,) = [node for node in prepared.graph.nodes if node.op == "placeholder"]
    return int(image.meta["val"].shape[0])


class SwitchedProgram:
    """A prepared program whose stored tensors are rounded or passed on, each as the caller chooses."""

    def __init__(self, prepared: fx.GraphModule) -> None:
        self._nodes = list(prepared.graph.nodes)
        (self._image,) = [node for node in self._nodes if node.op == "placeholder"]
        (self._output,) = [node.all_input_nodes[0] for node in self._nodes if node.op == "output"]
        self._constants = {node: constant_value(prepared, node).detach() for node in self._nodes if is_constant(node)}
        self._storage = {
            node: _Storage.of(node, getattr(prepared, str(node.target)))
            for node in self._nodes
            if node.op == "call_module" and node.users
        }
        self._rounded_constants = {
            node: storage.rounded(self._constants[node.all_input_nodes[0]])
            for node, storage in self._storage.items()
            if is_constant(node.all_input_nodes[0])
        }
        self._leader = {node: _weight_storage(node) for node in self._storage if _is_bias_storage(node, prepared)}
        choices = {node: storage for node, storage in self._storage.items() if storage.parameters is not None}
        self.images = batch_size(prepared)
        self.tensors = _stored_tensors(choices, self.images)
        self.every = frozenset(node for tensor in self.tensors for node in tensor.nodes)
        self._behind: dict[frozenset[fx.Node], list[fx.Node]] = {}

    def run(self, images: Tensor, rounded: frozenset[fx.Node]) -> Values:
        """The value of every node for ``images`` float32 [B, C, H, W], where the observers in ``rounded`` round.

        A batch that is too small is filled up with copies of its first image.
        """
        missing = self.images - len(images)
        values: Values = {self._image: torch.cat([images, images[:1].expand(missing, -1, -1, -1)])}
        for node in self._nodes:
            if node is not self._image:
                values[node] = self._compute(node, values, rounded)
        return values

    def run_again(
        self,
        known: Values,
        rounded: frozenset[fx.Node],
        changed: frozenset[fx.Node],
        exact: frozenset[fx.Node] = frozenset(),
    ) -> Values:
        """The values of ``changed`` and all behind them, where ``known`` is a run that differs from it only there.

        The operators in ``exact`` read their operands as they are before they are stored.
        """
        values: Values = ChainMap({}, known)
        for node in self._nodes_behind(changed | exact):
            if node in exact:
                values[node] = _apply(node, lambda operand: values[self.unstored(operand)])
            else:
                values[node] = self._compute(node, values, rounded)
        return values

    def unstored(self, operand: fx.Node) -> fx.Node:
        """What ``operand`` stores, or itself."""
        return operand.all_input_nodes[0] if operand in self._storage else operand

    def is_stored(self, operand: fx.Node) -> bool:
        """True where ``operand`` of a layer is stored for itself, and not just on the way into layers."""
        return producer(operand) is not source(self.unstored(operand))

    def logits(self, values: Values) -> Tensor:
        """float32 [B, classes]."""
        found: Tensor = values[self._output]
        return found

    def _compute(self, node: fx.Node, values: Values, rounded: frozenset[fx.Node]) -> Any:
        if node in self._constants:
            return self._constants[node]
        if node in self._storage:
            return self._store(node, values, rounded)
        if node.op != "call_function":  # the output, and the guards of an exported program
            return None
        return _apply(node, values.__getitem__)

    def _store(self, node: fx.Node, values: Values, rounded: frozenset[fx.Node]) -> Tensor:
        if self._leader.get(node, node) in rounded and node in self._rounded_constants:
            return self._rounded_constants[node]
        storage, value = self._storage[node], values[node.all_input_nodes[0]]
        return storage.rounded(value) if node in rounded else storage.passed(value)

    def _nodes_behind(self, changed: frozenset[fx.Node]) -> list[fx.Node]:
        if changed not in self._behind:
            reached = set(changed) | {bias for bias, weight in self._leader.items() if weight in changed}
            for node in self._nodes:
                if not reached.isdisjoint(node.all_input_nodes):
                    reached.add(node)
            self._behind[changed] = [node for node in self._nodes if node in reached]
        return self._behind[changed]


def _apply(node: fx.Node, value: Callable[[fx.Node], Any]) -> Any:
    arguments, keywords = fx.map_arg((node.args, node.kwargs), value)
    return node.target(*arguments, **keywords)  # type: ignore[operator]  # call_function calls its target


@dataclass(frozen=True)
class _Storage:
    """What an observer stands for. ``parameters`` are None where rounding is no choice of its own.

    An integer bias is rounded with the weight of its layer.
    """

    rounded: Change
    passed: Change
    parameters: object = None

    @classmethod
    def of(cls, node: fx.Node, observer: object) -> _Storage:
        def same(values: Tensor) -> Tensor:
            return values

        if isinstance(observer, PerChannelWeightObserver):
            scale, zero_point = observer.calculate_qparams()
            low, high = observer.quant_min, observer.quant_max
            return cls(
                lambda values: torch.fake_quantize_per_channel_affine(values, scale, zero_point.int(), 0, low, high),
                same,
                parameters=PER_CHANNEL,
            )
        if isinstance(observer, DerivedObserverOrFakeQuantize):
            scale, zero_point = observer.calculate_qparams()
            form = (scale, zero_point, observer.ch_axis, observer.quant_min, observer.quant_max, observer.dtype)
            return cls(lambda values: _dequantize(_quantize(values, *form), *form), same)
        if isinstance(observer, ActivationObserver) and not is_constant(producer(node)):
            numbers = observer.calculate_qparams()
            step, zero, low, high = float(numbers[0]), int(numbers[1]), observer.quant_min, observer.quant_max
            is_gate = role(producer(node)) is Role.GATE
            return cls(
                lambda values: torch.fake_quantize_per_tensor_affine(values, step, zero, low, high),
                (lambda values: values.clamp(0, GATE_MAX)) if is_gate else same,  # its range is the clamp of Hardswish
                parameters=(step, zero, low, high),
            )
        return cls(same, same)


def _is_bias_storage(node: fx.Node, prepared: fx.GraphModule) -> bool:
    return isinstance(getattr(prepared, str(node.target)), DerivedObserverOrFakeQuantize)


def _weight_storage(bias: fx.Node) -> fx.Node:
    """The observer of the weight of the layer that reads ``bias``."""
    (layer,) = bias.users
    return layer.all_input_nodes[1]


def _stored_tensors(storage: Mapping[fx.Node, _Storage], images: int) -> tuple[StoredTensor, ...]:
    """Observers that store a tensor in the same way, for several readers or behind a move, are one."""
    groups: dict[tuple[fx.Node, object], list[fx.Node]] = {}
    for node, found in storage.items():
        groups.setdefault((producer(node), found.parameters), []).append(node)
    named = numbered((_key(nodes), nodes) for nodes in groups.values())
    return tuple(
        StoredTensor(
            key=key,
            kind="weight" if is_constant(producer(nodes[0])) else "activation",
            nodes=frozenset(nodes),
            elements=producer(nodes[0]).meta["val"].numel() // (1 if is_constant(producer(nodes[0])) else images),
            macs=sum(macs(layer) for layer in dict.fromkeys(r for node in nodes for r in readers(node))) // images,
        )
        for key, nodes in named.items()
    )


def _key(nodes: Sequence[fx.Node]) -> Key:
    tensor = producer(nodes[0])
    return constant_key(tensor) if is_constant(tensor) else activation_key(nodes)


def macs(node: fx.Node) -> int:
    """Multiply-adds in a layer or product; 0 for any other operator."""
    if not is_layer_node(node):
        return 0
    first, second = (producer(operand) for operand in node.all_input_nodes[:2])
    shape, computed = node.meta["val"].shape, first.meta["val"].shape
    if node.target in LAYERS:
        return math.prod(map(int, (*shape, *second.meta["val"].shape[1:])))
    return math.prod(map(int, (*computed, shape[-1])))  # [..., N, K] @ [..., K, M] takes N * K * M
