"""The layers of a program in torch, one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from levit_edge.errors import InputError
from quantize.flow import trace
from targets.program import replay
from targets.program.tap import Affine, Layer, check_aligned
from targets.registry import TARGETS
from tests.programs import ATTENTIONS, CONVS, LINEARS, QUANTIZE, micro, nodes, quantized, run

LAYERS = CONVS + LINEARS + 2 * ATTENTIONS
IMAGE = micro().images[:1].numpy()


@pytest.mark.parametrize("name", TARGETS)
def test_every_layer_is_there_once_and_named_after_its_module(name: str) -> None:
    layers = replay.tap(quantized(name), IMAGE)
    kinds = [layer.kind for layer in layers]
    assert [kinds.count(kind) for kind in ("conv", "linear", "matmul")] == [CONVS, LINEARS, 2 * ATTENTIONS]
    names = [layer.name for layer in layers]
    assert len(set(names)) == LAYERS and (names[0], names[-1]) == ("stem.0", "head")
    assert {"blocks.0.q", "blocks.0.bmm", "blocks.1.up"} <= set(names)


@pytest.mark.parametrize("name", TARGETS)
def test_the_last_layer_gives_the_logits(name: str) -> None:
    assert np.array_equal(replay.tap(quantized(name), IMAGE)[-1].values, run(quantized(name), micro().images[:1]))


def test_a_stored_layer_has_the_scale_of_its_quantize_operator_and_integers_counted_from_zero() -> None:
    program = quantized("executorch")
    first = next(node for node in nodes(program.module(), QUANTIZE) if node.all_input_nodes[0].name == "conv2d")
    layer = replay.tap(program, IMAGE)[0]
    _, scale, zero_point, lowest, _, _ = first.args
    assert lowest == -128 and layer.affine == Affine(scale, zero_point + 128)
    assert layer.data.dtype == np.uint8 and layer.values.dtype == np.float32
    assert np.array_equal(layer.values, np.float32(scale) * (layer.data.astype(np.float32) - (zero_point + 128)))


@pytest.mark.parametrize("name", TARGETS)
def test_a_replay_of_its_own_layers_changes_nothing(name: str) -> None:
    layers = replay.tap(quantized(name), IMAGE)
    for layer, again in zip(layers, replay.replay(quantized(name), IMAGE, layers), strict=True):
        assert np.array_equal(layer.data, again.data)


def test_a_replay_shows_a_wrong_layer_where_it_is_and_nowhere_else() -> None:
    program = quantized("onnx")
    given = list(replay.tap(program, IMAGE))
    wrong = given[10]
    given[10] = Layer(wrong.kind, wrong.name, 255 - wrong.data, wrong.affine)
    free = replay.replay(program, IMAGE, given)  # what the others should be, given the wrong one
    same = [np.array_equal(layer.data, other.data) for layer, other in zip(given, free, strict=True)]
    assert not same[10] and same[:10] == [True] * 10
    given[11] = free[11]  # now a runtime that is wrong in layer 10 only
    again = replay.replay(program, IMAGE, given)
    assert np.array_equal(again[11].data, given[11].data) and np.array_equal(again[10].data, free[10].data)


def test_what_is_no_program_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"program\.pt2 does not exist; .* build the bundle again"):
        replay.load(tmp_path / "program.pt2")
    (tmp_path / "program.pt2").write_bytes(b"hello")
    with pytest.raises(InputError, match=r"program\.pt2 is not a torch program: .") as caught:
        replay.load(tmp_path / "program.pt2")
    assert "\n" not in str(caught.value)


def test_a_saved_program_is_read_back(tmp_path: Path) -> None:
    torch.export.save(quantized("onnx"), tmp_path / "program.pt2")
    saved, kept = replay.tap(replay.load(tmp_path / "program.pt2"), IMAGE), replay.tap(quantized("onnx"), IMAGE)
    for layer, other in zip(saved, kept, strict=True):
        assert (layer.name, layer.affine) == (other.name, other.affine) and np.array_equal(layer.data, other.data)


def test_layers_that_do_not_match_are_named() -> None:
    layers = replay.tap(quantized("onnx"), IMAGE)
    check_aligned(layers, layers, "a", "b")
    with pytest.raises(InputError, match=f"a does not match b: it has {LAYERS - 1} layers, expected {LAYERS}"):
        check_aligned(layers[1:], layers, "a", "b")
    with pytest.raises(InputError, match=r"a does not match b: layer 0 \(stem\.0\) is conv \[1, 8, 16, 16\], expected"):
        check_aligned((*layers[1:], layers[0]), layers, "a", "b")


def test_layer_outputs_are_floats_before_they_are_stored_and_given_values_are_passed_on() -> None:
    module, layers = quantized("onnx").module(), replay.tap(quantized("onnx"), IMAGE)
    free = replay.layer_outputs(module, IMAGE)
    assert [node for node, _ in free] == replay.layer_nodes(module.graph)
    for layer, (_, values) in zip(layers, free, strict=True):
        step = layer.affine.scale if layer.affine else 0.0
        inside = np.ones(values.shape, bool) if layer.affine is None else (layer.data > 0) & (layer.data < 255)
        assert np.abs(layer.values - values)[inside].max() <= 0.51 * step
    zeros = [np.zeros_like(values) for _, values in free]
    given = replay.layer_outputs(module, IMAGE, zeros)
    assert np.array_equal(given[0][1], free[0][1]) and not np.array_equal(given[1][1], free[1][1])


@pytest.mark.parametrize("product", [torch.bmm, torch.matmul])
def test_a_product_is_a_layer_however_torch_writes_it(product: Callable[[Tensor, Tensor], Tensor]) -> None:
    class Gram(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return product(x, x.transpose(1, 2))  # [1, N, D] x [1, D, N] -> [1, N, N]

    x = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0))
    (layer,) = replay.tap(trace(Gram().eval(), x), x.numpy())
    assert layer.kind == "matmul" and np.array_equal(layer.values, (x @ x.transpose(1, 2)).numpy())
