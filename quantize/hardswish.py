"""Hardswish without floats: ``6 * hardswish(x) = x * min(max(x + 3, 0), 6)`` as one integer add and one multiply.

The gate's integer type saturates, and its range is set to exactly [0, 6]: that is the clamp. The weight of the layer
that follows is divided by 6. (Hardswish: Howard et al. 2019, arXiv:1905.02244, section 5.2.)
"""

from __future__ import annotations

from collections.abc import Set

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from quantize.roles import aten, is_layer, layer_operands, mark, readers, role, source
from quantize.scheme import Role

GATE_SHIFT = 3.0
GATE_MAX = 6.0


def hardswish(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """``x * min(max(x + 3, 0), 6) / 6``."""
    found: NDArray[np.float64] = values * np.clip(values + GATE_SHIFT, 0, GATE_MAX) / GATE_MAX
    return found


def only_hardswish_reads(node: fx.Node) -> bool:
    """True where every operator that computes with ``node`` is a Hardswish, or a part of one that was split."""
    found = readers(node)
    parts = (Role.GATE, Role.HARDSWISH)
    return bool(found) and all(reader.target == aten.hardswish.default or role(reader) in parts for reader in found)


def constant_value(model: fx.GraphModule, node: fx.Node) -> Tensor:
    """The tensor that a get_attr node reads."""
    owner, _, name = str(node.target).rpartition(".")
    value = getattr(model.get_submodule(owner), name)
    assert isinstance(value, Tensor)
    return value


def _scale_weight(model: fx.GraphModule, layer: fx.Node, factor: float) -> None:
    _, weight, _ = layer_operands(layer)
    name = f"{weight.name}_scaled"
    model.register_buffer(name, constant_value(model, weight).detach() * factor)
    with model.graph.inserting_before(layer):
        scaled = model.graph.get_attr(name)
    scaled.meta.update(weight.meta)
    layer.replace_input_with(weight, scaled)


def split_hardswish(model: fx.GraphModule, stored: Set[Role], kept: Set[fx.Node] = frozenset()) -> dict[str, str]:
    """Rewrite, in place, each Hardswish between stored tensors; returns {name of its product: name of the Hardswish}.

    A tensor is stored when its role is, and it is not among the ``kept`` ones.

    The new nodes are marked as GATE and HARDSWISH. The program computes a Hardswish again only when the gate is
    quantized over [0, 6].
    """
    renamed: dict[str, str] = {}
    if not {Role.GATE, Role.HARDSWISH} <= stored:
        return renamed  # only an integer gate saturates
    for node in [n for n in model.graph.nodes if n.target == aten.hardswish.default]:
        x = node.all_input_nodes[0]
        layers = readers(node)
        if not {role(source(x)), role(node)} <= stored or not kept.isdisjoint({source(x), node}):
            continue
        if not all(is_layer(layer) for layer in layers):
            continue
        name = f"{node.name}_shift"  # a constant for each: PT2E folds them one by one
        model.register_buffer(name, torch.tensor([GATE_SHIFT]))
        with model.graph.inserting_before(node):
            shift = model.graph.get_attr(name)
            gate = model.graph.call_function(aten.add.Tensor, (x, shift))
            product = model.graph.call_function(aten.mul.Tensor, (x, gate))
        shift.meta["val"] = node.meta["val"].new_empty(1)
        gate.meta.update(node.meta)
        product.meta.update(node.meta)
        mark(gate, Role.GATE)
        mark(product, Role.HARDSWISH)
        node.replace_all_uses_with(product)
        model.graph.erase_node(node)
        for layer in layers:
            _scale_weight(model, layer, 1 / GATE_MAX)
        renamed[product.name] = node.name
    model.graph.eliminate_dead_code()
    model.recompile()
    return renamed
