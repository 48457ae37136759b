"""Which tensor of an exported FusedLevit is what: the one place that knows the operators of the graph."""

from __future__ import annotations

import torch
from torch import fx

from quantize.scheme import Role

aten = torch.ops.aten

LAYERS = (aten.conv2d.default, aten.linear.default)
MOVES = (
    aten.view.default,
    aten.reshape.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.permute.default,
    aten.transpose.int,
)


def is_move(node: fx.Node) -> bool:
    """True for operators that only rearrange elements: their output keeps the input's scale and zero point."""
    return node.op == "call_function" and node.target in MOVES


def is_constant(node: object) -> bool:
    return isinstance(node, fx.Node) and node.op == "get_attr"


def source(node: fx.Node) -> fx.Node:
    """The tensor that ``node`` is a rearrangement of (itself, if it is not a move)."""
    while is_move(node):
        node = node.all_input_nodes[0]
    return node


def _sole_consumer(node: fx.Node) -> fx.Node | None:
    """The only operator behind ``node``, looking through moves; None if there are several."""
    while len(node.users) == 1:
        node = next(iter(node.users))
        if not is_move(node):
            return node
    return None


def _add_role(node: fx.Node) -> Role:
    if not any(is_constant(arg) for arg in node.args):
        return Role.RESIDUAL
    consumer = _sole_consumer(node)
    is_scores = consumer is not None and consumer.target == aten.softmax.int
    return Role.BIASED_SCORES if is_scores else Role.GATE


def _bmm_role(node: fx.Node) -> Role:
    left = source(node.all_input_nodes[0])
    return Role.CONTEXT if left.target == aten.softmax.int else Role.SCORES


def _layer_role(node: fx.Node) -> Role:
    consumer = _sole_consumer(node)
    if consumer is None:
        return Role.LAYER
    if consumer.target == aten.bmm.default and _bmm_role(consumer) is Role.CONTEXT:
        return Role.VALUES
    if consumer.target == aten.add.Tensor:
        return Role.BRANCH if _add_role(consumer) is Role.RESIDUAL else Role.LAYER
    return Role.LOGITS if consumer.op == "output" else Role.LAYER


def role(node: fx.Node) -> Role | None:
    """Role of the tensor that ``node`` produces; None for constants, moves and the output.

    Raises ValueError for an operator that an exported FusedLevit does not have.
    """
    if node.op == "placeholder":
        return Role.IMAGE
    if node.op != "call_function" or is_move(node):
        return None
    if node.target in LAYERS:
        return _layer_role(node)
    if node.target == aten.add.Tensor:
        return _add_role(node)
    if node.target == aten.bmm.default:
        return _bmm_role(node)
    simple = {
        aten.hardswish.default: Role.HARDSWISH,
        aten.mul.Tensor: Role.HARDSWISH,
        aten.softmax.int: Role.SOFTMAX,
        aten.mean.dim: Role.POOLED,
    }
    if node.target in simple:
        return simple[node.target]
    raise ValueError(f"operator {node.target} of node {node.name} is not one that a fused LeViT has")
