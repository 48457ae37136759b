"""How much noise each stored tensor adds to the logits: alone, and what is left of the whole without it.

A tensor is judged twice: *alone*, where only it is rounded, and *without*, where all others are. Errors in a network
neither add up nor stay independent, so the two rank the tensors differently, and both say something: the first what a
tensor costs, the second what keeping it float would gain. (The first is the usual analysis by layer: Wu et al. 2020,
arXiv:2004.09602, section 6.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from levit_edge.metrics.sqnr import decibels
from quantize.names import Key
from quantize.roles import is_constant, is_layer, layer_operands, role, source
from quantize.scheme import Role
from quantize.switched_program import StoredTensor, SwitchedProgram


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
