"""Every tensor of a quantized program is stored or has a reason why it is not."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from quantize.float_tensors import (
    ANSWER,
    ATTENTION,
    ATTENTION_READS,
    FLOAT_LAYER,
    LAYER_KEPT,
    RESIDUAL,
    float_tensors,
)
from quantize.flow import quantize
from quantize.names import activation_key, layer_name
from quantize.recipes import RECIPES, Recipe
from quantize.roles import is_layer, role
from targets.program.parameters import stored_ranges
from targets.registry import TARGETS
from tests.programs import ATTENTIONS, FULL, PLANS, micro, quantized

RESIDUALS = 4


def found(target: str, recipe: Recipe) -> dict[str, str]:
    scene = micro()
    recipe, scheme = recipe.resolved(TARGETS[target].scheme), TARGETS[target].scheme
    program = quantize(scene.program, scene.example, recipe, scheme, scene.histograms)
    return float_tensors(scene.program, recipe, stored_ranges(program))


@pytest.mark.parametrize("recipe", ["int8", FULL.name])
@pytest.mark.parametrize("target", TARGETS)
def test_what_is_not_stored_has_a_reason_and_nothing_else(target: str, recipe: str) -> None:
    stored = set(stored_ranges(quantized(target, recipe)))
    reasons = found(target, PLANS[recipe])
    nodes = [node for node in micro().program.module().graph.nodes if role(node) is not None]
    every = {" ".join(activation_key([node])) for node in nodes}
    every |= {f"{layer_name(node)} weight" for node in nodes if is_layer(node)}
    assert every - stored <= set(reasons) <= every
    assert {name for name in set(reasons) & stored if not name.endswith(" add")} == set()  # an attention bias is stored


def test_the_reasons_by_hand() -> None:
    reasons = found("coreml", RECIPES["int8"])
    assert reasons["stem.0 input"] == "the recipe keeps the role image float"
    assert reasons["stem.1 input"] == "the recipe keeps the role first float"
    assert reasons["head weight"] == "its layer reads 'head input', which is float"
    assert reasons["head output"] == reasons["stem.0 output"] == FLOAT_LAYER
    assert reasons["blocks.0.q output"] == reasons["blocks.4.v output"] == ATTENTION_READS
    assert reasons["blocks.1.down output"] == RESIDUAL
    count = Counter(reasons.values())
    assert count[ATTENTION] == 4 * ATTENTIONS and count[ATTENTION_READS] == 3 * ATTENTIONS
    assert count[RESIDUAL] == RESIDUALS + 1  # and their last sum, which only the mean over the tokens reads


def test_a_named_tensor_and_the_answer() -> None:
    named = Recipe("mine", "int8", weights="int8", activations="int8", keep_float=("stem.1 input",))
    reasons = found("onnx", named)
    assert reasons["stem.1 input"] == "the recipe keeps it float"
    assert reasons["stem.1 weight"] == "its layer reads 'stem.1 input', which is float"
    assert reasons["head output"] == ANSWER


def test_a_named_layer_and_what_it_reads() -> None:
    reasons = found("executorch", replace(FULL, keep_float=("blocks.0.k layer",)))
    assert reasons["blocks.0.k weight"] == LAYER_KEPT
    assert reasons["blocks.0.k output"] == FLOAT_LAYER
    assert not {name for name in reasons if name.startswith(("blocks.0.q", "blocks.0.v"))}
