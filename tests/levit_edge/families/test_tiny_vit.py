"""The second family of the tests is what it says: another kind of model, with one function in both of its forms."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from tests.levit_edge.families.tiny_vit import TINY_VIT, image, random_model


@pytest.mark.parametrize("batch", [1, 2, 3])
@torch.inference_mode()
def test_fused_and_reference_are_one_function(batch: int) -> None:
    reference, pixels = random_model(), image(batch)
    assert reference(pixels).shape == (batch, 3)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        expected = reference.to(dtype)(pixels.to(dtype))
        assert 0.3 < float(expected.abs().max()) < 10
        assert float((TINY_VIT.fuse(reference)(pixels.to(dtype)) - expected).abs().max()) <= tolerance


@torch.inference_mode()
def test_images_have_different_logits() -> None:
    assert float(random_model()(image(8)).std(dim=0).min()) > 0.1


def test_it_is_tiny() -> None:
    assert 20_000 < sum(parameter.numel() for parameter in random_model().parameters()) < 25_000


def test_the_exported_graph_has_these_operators_and_no_others() -> None:
    program = torch.export.export(TINY_VIT.fuse(random_model()), (image(),))
    counts = Counter(str(node.target).split(".")[1] for node in program.graph.nodes if node.op == "call_function")
    moves = {"view", "permute", "reshape"}
    layers = {"conv2d": 1, "linear": 2 * 6 + 1, "layer_norm": 5, "bmm": 4, "softmax": 2, "gelu": 2}
    others = {"add": 5, "mul": 2, "mean": 1}
    assert {name: count for name, count in counts.items() if name not in moves} == layers | others
    assert moves >= set(counts) - set(layers | others)
    weights = [node.args for node in program.graph.nodes if str(node.target) == "aten.linear.default"]
    assert sum(len(args) == 2 for args in weights) == 6  # q, k and v have no bias
