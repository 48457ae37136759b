"""Which tensors of a quantized model are no integers, and why."""

from __future__ import annotations

from collections.abc import Collection

from torch import fx
from torch.export import ExportedProgram

from quantize.names import WHOLE_LAYER, activation_key, layer_name
from quantize.recipes import Recipe
from quantize.roles import is_layer, layer_operands, role, source
from quantize.scheme import ATTENTION_INPUTS, ATTENTION_INSIDE, RESIDUAL_STREAM, Role

ATTENTION = "attention computes in float"
ATTENTION_READS = "only attention reads it, which computes in float"
RESIDUAL = "the residual stream is float"
ANSWER = "the answer is float"
FLOAT_LAYER = "its layer computes in float"
LAYER_KEPT = "the recipe keeps its layer float"
FLOAT_READER = "nothing reads it as integers"


def float_tensors(program: ExportedProgram, recipe: Recipe, stored: Collection[str]) -> dict[str, str]:
    """{name: reason} of each weight, and each activation whose role is known, that is not among the ``stored`` ones.

    ``program`` is the one before quantization, ``recipe`` that of the target, and names are those of
    :mod:`quantize.names`.
    """
    found: dict[str, str] = {}
    graph = program.module().graph
    float_layers = {node for node in graph.nodes if is_layer(node) and f"{layer_name(node)} weight" not in stored}
    for node in graph.nodes:
        if node in float_layers:
            name, tensor = layer_name(node), source(layer_operands(node)[0])
            is_kept = f"{name} {WHOLE_LAYER}" in (recipe.keep_float or ())
            found[f"{name} weight"] = LAYER_KEPT if is_kept else f"its layer reads {_name(tensor)!r}, which is float"
        what = role(node)
        if what in ATTENTION_INSIDE or (what is not None and _name(node) not in stored):
            found[_name(node)] = _reason(node, what, recipe, node in float_layers)
    return found


def _name(node: fx.Node) -> str:
    return " ".join(activation_key([node]))


def _reason(node: fx.Node, what: Role | None, recipe: Recipe, is_float_layer: bool) -> str:
    kept = recipe.keep_float or ()
    if _name(node) in kept:
        return "the recipe keeps it float"
    if what is not None and what.value in kept:
        return f"the recipe keeps the role {what.value} float"
    if is_float_layer:
        return FLOAT_LAYER
    return next((reason for roles, reason in _REASONS if what in roles), FLOAT_READER)


_REASONS: tuple[tuple[frozenset[Role], str], ...] = (
    (ATTENTION_INSIDE, ATTENTION),
    (ATTENTION_INPUTS, ATTENTION_READS),
    (RESIDUAL_STREAM, RESIDUAL),
    (frozenset({Role.LOGITS}), ANSWER),
)
