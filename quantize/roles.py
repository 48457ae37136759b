"""What the tensors of an exported program are, told from the operators around them.

A tensor has a role only where the graph proves it. Every other tensor, and every operator that is not named here, has
none and stays float.
"""

from __future__ import annotations

from collections.abc import Callable

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
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
    aten.contiguous.default,
)
PRODUCTS = (aten.bmm.default, aten.matmul.default)
_ATTENTION = aten.scaled_dot_product_attention.default
_ELEMENTWISE = (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor)
_MARK = "quantize_role"


def is_move(node: fx.Node) -> bool:
    """True for operators that only rearrange elements: their output keeps the input's scale and zero point."""
    return node.op == "call_function" and node.target in MOVES


def is_constant(node: object) -> bool:
    """True for a parameter or buffer of the program."""
    return isinstance(node, fx.Node) and node.op == "get_attr"


def is_computed(node: object) -> bool:
    """True for a tensor that depends on the input of the program."""
    pending, seen = [node], set[object]()
    while pending:
        found = pending.pop()
        if not isinstance(found, fx.Node) or found in seen:
            continue
        if found.op == "placeholder":
            return True
        seen.add(found)
        pending += found.all_input_nodes
    return False


def is_layer(node: fx.Node) -> bool:
    """True for a convolution or linear layer of a computed tensor, whose weight and bias (if any) are constants."""
    if node.op != "call_function" or node.target not in LAYERS:
        return False
    x, *constants = node.all_input_nodes
    return bool(constants) and all(is_constant(constant) for constant in constants) and is_computed(x)


def is_convolution(node: fx.Node) -> bool:
    """True for a layer that is a convolution."""
    return node.target == aten.conv2d.default and is_layer(node)


def layer_operands(layer: fx.Node) -> tuple[fx.Node, fx.Node, fx.Node | None]:
    """(input, weight, bias or None) of a layer."""
    x, weight, *bias = layer.all_input_nodes
    return x, weight, bias[0] if bias else None


def source(node: fx.Node) -> fx.Node:
    """The tensor that ``node`` is a rearrangement of (itself, if it is not a move)."""
    while is_move(node):
        node = node.all_input_nodes[0]
    return node


def readers(node: fx.Node) -> list[fx.Node]:
    """Every operator that reads ``node``, looking through moves; one entry for each way that leads there."""
    found: list[fx.Node] = []
    for user in node.users:
        found += readers(user) if is_move(user) else [user]
    return found


def mark(node: fx.Node, role: Role) -> None:
    """Give ``node``, which the caller has put into the graph, a role that its operator alone would not prove."""
    node.meta[_MARK] = role


def _sole_reader(node: fx.Node) -> fx.Node | None:
    found = readers(node)
    return found[0] if len(found) == 1 else None


def _variable_operand(node: fx.Node | None) -> fx.Node | None:
    """The computed operand of ``tensor + constant``, ``tensor * constant`` and the like; None for all other nodes."""
    if node is None or node.target not in _ELEMENTWISE:
        return None
    left, right = (isinstance(operand, fx.Node) and is_computed(operand) for operand in node.args[:2])
    return None if left == right else node.args[0 if left else 1]  # type: ignore[return-value]  # it is a node


def _feeds_softmax(node: fx.Node) -> bool:
    """True when only a softmax reads ``node``, after constants were added to it or multiplied with it."""
    reader = _sole_reader(node)
    while _variable_operand(reader) is not None:
        assert reader is not None
        reader = _sole_reader(reader)
    return reader is not None and reader.target == aten.softmax.int


def _product_role(node: fx.Node) -> Role | None:
    """Of a matrix product: the scores in front of a softmax, or the sum of values that a softmax weights."""
    if not all(is_computed(operand) for operand in node.args):
        return None
    if source(node.all_input_nodes[0]).target == aten.softmax.int:
        return Role.CONTEXT
    return Role.SCORES if _feeds_softmax(node) else None


def _is_scores(node: fx.Node | None) -> bool:
    """True for attention scores, also after constants were added to them or multiplied with them."""
    while node is not None and source(node).target not in PRODUCTS:
        node = _variable_operand(source(node))
    return node is not None and _product_role(source(node)) is Role.SCORES


def _add_role(node: fx.Node) -> Role | None:
    variable = _variable_operand(node)
    if variable is not None:
        return Role.BIASED_SCORES if _is_scores(variable) else None
    return Role.RESIDUAL if all(is_computed(operand) for operand in node.args[:2]) else None


def _mean_role(node: fx.Node) -> Role | None:
    is_pooling = all(is_layer(reader) or reader.op == "output" for reader in readers(node))
    return Role.POOLED if is_pooling else None


def _layer_role(node: fx.Node) -> Role | None:
    if not is_layer(node):
        return None
    reader = _sole_reader(node)
    if reader is None:
        return Role.LAYER
    if reader.op == "output":
        return Role.LOGITS
    if reader.target == aten.add.Tensor and _add_role(reader) is Role.RESIDUAL:
        return Role.BRANCH
    return _attention_input(node, reader) or Role.LAYER


def _attention_input(node: fx.Node, reader: fx.Node) -> Role | None:
    """Which input of an attention the layer ``node`` gives to its only reader; None where that is no attention."""
    if reader.target == _ATTENTION:
        roles = [Role.QUERIES, Role.KEYS, Role.VALUES]
    elif reader.target in PRODUCTS and _product_role(reader) is Role.SCORES:
        roles = [Role.QUERIES, Role.KEYS]
    elif reader.target in PRODUCTS and _product_role(reader) is Role.CONTEXT:
        roles = [Role.SOFTMAX, Role.VALUES]
    else:
        return None
    return next(what for operand, what in zip(reader.args, roles, strict=False) if source(operand) is node)  # type: ignore[arg-type]  # operands are nodes


def _hardswish_role(node: fx.Node) -> Role:
    layer, found = source(node.all_input_nodes[0]), readers(node)
    is_first = is_layer(layer) and source(layer_operands(layer)[0]).op == "placeholder"
    return Role.FIRST if is_first and found and all(map(is_layer, found)) else Role.HARDSWISH


_SIMPLE: dict[object, Role] = {
    aten.softmax.int: Role.SOFTMAX,
    _ATTENTION: Role.CONTEXT,
}
_JUDGED: dict[object, Callable[[fx.Node], Role | None]] = {
    **dict.fromkeys(LAYERS, _layer_role),
    **dict.fromkeys(PRODUCTS, _product_role),
    aten.hardswish.default: _hardswish_role,
    aten.add.Tensor: _add_role,
    aten.mean.dim: _mean_role,
}


def role(node: fx.Node) -> Role | None:
    """Role of the tensor that ``node`` produces; None for constants, moves, the output and whatever is not proven."""
    if node.op == "placeholder":
        return Role.IMAGE if any(is_layer(reader) for reader in readers(node)) else None
    if node.op != "call_function" or not is_computed(node):
        return None
    if _MARK in node.meta or node.target in _SIMPLE:
        found: Role = node.meta.get(_MARK) or _SIMPLE[node.target]
        return found
    judge = _JUDGED.get(node.target)
    return None if judge is None else judge(node)
