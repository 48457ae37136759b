"""Every tensor of an exported FusedLevit has a role, and the roles are those of the architecture."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from levit_edge.families.levit.fuse import fuse
from levit_edge.families.load import from_module
from quantize.flow import trace
from quantize.roles import is_constant, is_move, role, source
from quantize.scheme import Role
from tests.levit_edge.families.levit.levits import hf_model, image, tiny_config
from tests.programs import ATTENTIONS, CONVS, HARDSWISHES, LINEARS, micro

_RESIDUALS = 4  # an attention and three MLPs; what subsamples has none


def test_the_roles_of_the_smallest_levit_by_hand() -> None:
    found = Counter(role(node) for node in micro().program.module().graph.nodes)
    del found[None]
    inside = (Role.VALUES, Role.SCORES, Role.BIASED_SCORES, Role.SOFTMAX, Role.CONTEXT)
    assert found == {
        Role.IMAGE: 1,
        Role.LAYER: CONVS + LINEARS - ATTENTIONS - _RESIDUALS - 1,
        Role.BRANCH: _RESIDUALS,
        Role.HARDSWISH: HARDSWISHES,
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


def test_an_operator_that_no_fused_levit_has_is_named() -> None:
    class Other(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(x)

    nodes = {node.name: node for node in trace(Other(), torch.zeros(1, 3)).module().graph.nodes}
    with pytest.raises(ValueError, match=r"operator aten\.tanh\.default of node tanh is not one that a fused LeViT"):
        role(nodes["tanh"])
