"""The roles of an exported FusedLevit are those of its architecture; what is not understood has none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from levit_edge.families.levit.fuse import fuse
from levit_edge.families.load import from_module
from quantize.flow import trace
from quantize.roles import aten, is_constant, is_move, mark, role, source
from quantize.scheme import Role
from tests.levit_edge.families.levit.levits import hf_model, image, tiny_config
from tests.programs import ATTENTIONS, CONVS, HARDSWISHES, LINEARS, micro

_RESIDUALS = 4  # an attention and three MLPs; what subsamples has none


def test_the_roles_of_the_smallest_levit_by_hand() -> None:
    found = Counter(role(node) for node in micro().program.module().graph.nodes)
    del found[None]
    inside = (Role.QUERIES, Role.KEYS, Role.VALUES, Role.SCORES, Role.BIASED_SCORES, Role.SOFTMAX, Role.CONTEXT)
    assert found == {
        Role.IMAGE: 1,
        Role.LAYER: CONVS + LINEARS - 3 * ATTENTIONS - _RESIDUALS - 1,
        Role.BRANCH: _RESIDUALS,
        Role.FIRST: 1,
        Role.HARDSWISH: HARDSWISHES - 1,
        Role.RESIDUAL: _RESIDUALS,
        Role.POOLED: 1,
        Role.LOGITS: 1,
        **dict.fromkeys(inside, ATTENTIONS),
    }


@pytest.mark.parametrize("changes", [{"depths": (2, 1, 1)}, {"mlp_ratio": (2, 0, 3)}, {"image_size": 112}], ids=str)
def test_only_constants_moves_and_the_output_have_no_role(changes: dict[str, Any]) -> None:
    config = tiny_config(**changes)
    module = trace(fuse(from_module(hf_model(config, heads=1)).model), image(config)).module()
    for node in module.graph.nodes:
        plain = node.op in ("get_attr", "output", "call_module") or is_move(node)
        assert (role(node) is None) is plain, node.name


def test_every_move_leads_back_to_a_tensor_with_a_role() -> None:
    moves = [node for node in micro().program.module().graph.nodes if is_move(node)]
    assert len(moves) > 30
    assert all(role(source(node)) is not None for node in moves)


def test_the_bias_is_the_only_constant_that_is_added() -> None:
    for node in micro().program.module().graph.nodes:
        if role(node) is Role.BIASED_SCORES:
            assert [is_constant(arg) for arg in node.args] == [False, True]


class Rows(nn.Module):
    """Operators that have a role only among the right neighbours. [1, 3, 8] -> [1, 3, 8]."""

    def __init__(self, forward: Callable[[nn.Linear, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.compute = nn.Linear(8, 8), forward

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(self.layer, x)


# What is computed, and the roles of all its tensors in their order.
SMALL: dict[str, tuple[Callable[[nn.Linear, Tensor], Tensor], list[Role]]] = {
    "an operator that is not understood": (lambda layer, x: torch.tanh(x), []),
    "an image that no layer reads": (lambda layer, x: x + torch.relu(x), [Role.RESIDUAL]),
    "a number that is added": (lambda layer, x: layer(x) + 3, [Role.IMAGE, Role.LAYER]),
    "a mean that is subtracted": (lambda layer, x: layer(x) - x.mean(2, keepdim=True), [Role.IMAGE, Role.LAYER]),
    "a mean that a layer reads": (lambda layer, x: layer(x.mean(1)), [Role.POOLED, Role.LOGITS]),
    "a product without a softmax": (lambda layer, x: x @ layer(x).transpose(1, 2), [Role.IMAGE, Role.LAYER]),
    "a softmax on the right": (
        lambda layer, x: x.transpose(1, 2) @ layer(x).softmax(1),
        [Role.IMAGE, Role.LAYER, Role.SOFTMAX],
    ),
    "a product with a constant": (lambda layer, x: (x @ torch.ones(8, 8)).softmax(1), [Role.SOFTMAX]),
    "scores that something else reads": (
        lambda layer, x: (scores := x @ x.transpose(1, 2)).softmax(1) @ scores,
        [Role.SOFTMAX, Role.CONTEXT],
    ),
    "scores with a scale and a bias": (
        lambda layer, x: ((x @ x.transpose(1, 2) / 4 + torch.ones(3)) * 2).softmax(2) @ layer(x),
        [Role.IMAGE, Role.SCORES, Role.BIASED_SCORES, Role.SOFTMAX, Role.VALUES, Role.CONTEXT],
    ),
    "the values of an attention": (
        lambda layer, x: nn.functional.scaled_dot_product_attention(x, x, layer(x)),
        [Role.IMAGE, Role.VALUES, Role.CONTEXT],
    ),
    "the queries of an attention": (
        lambda layer, x: nn.functional.scaled_dot_product_attention(layer(x), x, x),
        [Role.IMAGE, Role.QUERIES, Role.CONTEXT],
    ),
    "the keys of an attention": (
        lambda layer, x: nn.functional.scaled_dot_product_attention(x, layer(x), x),
        [Role.IMAGE, Role.KEYS, Role.CONTEXT],
    ),
    "scores of queries and keys from one layer": (
        lambda layer, x: ((y := layer(x)) @ y.transpose(1, 2)).softmax(2) @ x,
        [Role.IMAGE, Role.LAYER, Role.SCORES, Role.SOFTMAX, Role.CONTEXT],
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_role_needs_the_right_neighbours(name: str) -> None:
    compute, expected = SMALL[name]
    found = [role(node) for node in trace(Rows(compute), torch.ones(1, 3, 8)).module().graph.nodes]
    assert [kind for kind in found if kind is not None] == expected


def test_a_shift_that_a_product_reads_is_a_gate_only_where_it_was_put_there() -> None:
    module = trace(Rows(lambda layer, x: x * (x + torch.ones(1))), torch.ones(1, 3, 8)).module()
    add, mul = (node for node in module.graph.nodes if node.target in (aten.add.Tensor, aten.mul.Tensor))
    assert role(add) is None and role(mul) is None
    mark(add, Role.GATE)
    mark(mul, Role.HARDSWISH)
    assert role(add) is Role.GATE and role(mul) is Role.HARDSWISH
