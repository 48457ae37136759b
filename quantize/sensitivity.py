"""How much noise each stored tensor adds to the logits: alone, and what is left of the whole without it.

The prepared program has an observer at each place where a tensor becomes integers. Here each of them can round its
tensor or pass it on, so one program computes the float model, the quantized one, and everything in between. A tensor
is judged twice: *alone*, where only it is rounded, and *without*, where all others are. Errors in a network neither
add up nor stay independent, so the two rank the tensors differently, and both say something: the first what a tensor
costs, the second what keeping it float would gain. (The first is the usual analysis by layer: Wu et al. 2020,
arXiv:2004.09602, section 6.)

Of a run in which one tensor changes, only what depends on that tensor is computed; the rest comes from the whole run.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx
from torchao.quantization.pt2e import DerivedObserverOrFakeQuantize

from levit_edge.metrics.sqnr import decibels
from quantize.hardswish import GATE_MAX, constant_value
from quantize.names import Key, activation_key, constant_key, is_layer_node, numbered, producer, readers
from quantize.observers import ActivationObserver, PerChannelWeightObserver
from quantize.roles import LAYERS, is_constant, is_layer, layer_operands, role, source
from quantize.scheme import Role

Kind = Literal["activation", "weight"]
Values = MutableMapping[fx.Node, Any]
Change = Callable[[Tensor], Tensor]

_quantize = torch.ops.quantized_decomposed.quantize_per_channel.default
_dequantize = torch.ops.quantized_decomposed.dequantize_per_channel.default

PER_CHANNEL = "per channel"  # layers that share a weight share its scales


@dataclass
class Noise:
    """The error of some logits against those of the float model, summed over images."""

    signal: float = 0.0
    noise: float = 0.0
    changed: int = 0
    images: int = 0

    def add(self, reference: Tensor, logits: Tensor) -> None:
        """Both float [B, classes]."""
        exact, found = reference.double(), logits.double()
        self.signal += float(exact.square().sum())
        self.noise += float((found - exact).square().sum())
        self.changed += int((exact.argmax(1) != found.argmax(1)).sum())
        self.images += len(exact)

    @property
    def sqnr_db(self) -> float:
        """Infinite where nothing differs."""
        return decibels(self.signal, self.noise)

    @property
    def changed_pct(self) -> float:
        """Images with another answer than that of the float model."""
        return 100 * self.changed / self.images


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


@dataclass(frozen=True)
class Sensitivity:
    """``whole`` is the noise of all ``tensors``; ``alone`` and ``without`` are those of each of them, by its key."""

    tensors: tuple[StoredTensor, ...]
    whole: Noise
    alone: Mapping[Key, Noise]
    without: Mapping[Key, Noise]


def sensitivity(prepared: fx.GraphModule, batches: Iterable[Tensor]) -> Sensitivity:
    """Judge every stored tensor of ``prepared``, which :func:`quantize.flow.prepare` gave for one batch size.

    ``batches`` are float32 [B, C, H, W] of at most that size. Raises ValueError when there is none.
    """
    program = SwitchedProgram(prepared)
    keys, every = [tensor.key for tensor in program.tensors], program.every
    found = Sensitivity(program.tensors, Noise(), {key: Noise() for key in keys}, {key: Noise() for key in keys})
    with torch.no_grad():
        for batch in batches:
            floats, whole = program.run(batch, frozenset()), program.run(batch, every)
            reference = program.logits(floats)[: len(batch)]
            found.whole.add(reference, program.logits(whole)[: len(batch)])
            for tensor in program.tensors:
                for noise, rounded, known in (
                    (found.alone, tensor.nodes, floats),
                    (found.without, every - tensor.nodes, whole),
                ):
                    values = program.run_again(known, rounded, tensor.nodes)
                    noise[tensor.key].add(reference, program.logits(values)[: len(batch)])
    if not found.whole.images:
        raise ValueError("no image was given")
    return found


def batch_size(prepared: fx.GraphModule) -> int:
    """Images that one run of ``prepared`` computes."""
    (image,) = [node for node in prepared.graph.nodes if node.op == "placeholder"]
    return int(image.meta["val"].shape[0])


def storable(module: fx.GraphModule) -> dict[str, tuple[object, Role | None, int]]:
    """The (operator, role, number of constant operands) of every node that a scheme may store, or a layer reads.

    Two programs of one model whose tables are equal have the same stored tensors, by the same names.
    """
    nodes = module.graph.nodes
    read = {source(layer_operands(node)[0]) for node in nodes if is_layer(node)}
    return {
        node.name: (node.target, role(node), sum(map(is_constant, node.all_input_nodes)))
        for node in nodes
        if node in read or is_layer(node) or role(node) is not None
    }


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
        self.tensors = _stored_tensors(choices, batch_size(prepared))
        self.every = frozenset(node for tensor in self.tensors for node in tensor.nodes)
        self._behind: dict[frozenset[fx.Node], list[fx.Node]] = {}

    def run(self, images: Tensor, rounded: frozenset[fx.Node]) -> Values:
        """The value of every node for ``images`` float32 [B, C, H, W], where the observers in ``rounded`` round.

        A batch that is too small is filled up with copies of its first image.
        """
        missing = int(self._image.meta["val"].shape[0]) - len(images)
        values: Values = {self._image: torch.cat([images, images[:1].expand(missing, -1, -1, -1)])}
        for node in self._nodes:
            if node is not self._image:
                values[node] = self._compute(node, values, rounded)
        return values

    def run_again(self, known: Values, rounded: frozenset[fx.Node], changed: frozenset[fx.Node]) -> Values:
        """The values of ``changed`` and all behind them, where ``known`` is a run that differs from it only there."""
        values: Values = ChainMap({}, known)
        for node in self._nodes_behind(changed):
            values[node] = self._compute(node, values, rounded)
        return values

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
        arguments, keywords = fx.map_arg((node.args, node.kwargs), lambda operand: values[operand])
        return node.target(*arguments, **keywords)  # type: ignore[operator]  # call_function calls its target

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
            macs=sum(_macs(layer) for layer in dict.fromkeys(r for node in nodes for r in readers(node))) // images,
        )
        for key, nodes in named.items()
    )


def _key(nodes: Sequence[fx.Node]) -> Key:
    tensor = producer(nodes[0])
    return constant_key(tensor) if is_constant(tensor) else activation_key(nodes)


def _macs(node: fx.Node) -> int:
    """Multiply-adds in a layer or product; 0 for any other operator."""
    if not is_layer_node(node):
        return 0
    first, second = (producer(operand) for operand in node.all_input_nodes[:2])
    shape, computed = node.meta["val"].shape, first.meta["val"].shape
    if node.target in LAYERS:
        return math.prod(map(int, (*shape, *second.meta["val"].shape[1:])))
    return math.prod(map(int, (*computed, shape[-1])))  # [..., N, K] @ [..., K, M] takes N * K * M
