"""The noise of each stored tensor, against programs that were quantized as a whole, and against plain runs."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from levit_edge.metrics.sqnr import sqnr_db
from quantize.flow import prepare, trace
from quantize.ranges import QParams
from quantize.sensitivity import Sensitivity, sensitivity
from quantize.switched_program import SwitchedProgram
from targets.program.parameters import stored_ranges
from targets.registry import TARGETS
from tests.programs import CONVS, FULL, LINEARS, PLANS, micro, quantized, run

BATCH = 4


@cache
def switched(target: str, recipe: str = FULL.name) -> SwitchedProgram:
    scene = micro()
    program = trace(scene.model, scene.images[:BATCH])
    return SwitchedProgram(prepare(program, PLANS[recipe], TARGETS[target].scheme, scene.histograms))


@cache
def judged(target: str) -> Sensitivity:
    scene = micro()
    program = trace(scene.model, scene.images[:BATCH])
    prepared = prepare(program, FULL, TARGETS[target].scheme, scene.histograms)
    return sensitivity(prepared, scene.images[:6].split(BATCH))  # the second batch is not full


@pytest.mark.parametrize("name", TARGETS)
def test_it_computes_the_float_program_and_the_quantized_one(name: str) -> None:
    program, images = switched(name), micro().images[:BATCH]
    with torch.no_grad():
        floats = program.logits(program.run(images, frozenset())).numpy()
        rounded = program.logits(program.run(images, program.every)).numpy()
    assert np.allclose(floats, micro().logits[:BATCH], atol=1e-5)
    # Kernels for one image and for four may round a tie differently.
    assert sqnr_db(run(quantized(name), images), rounded) > sqnr_db(micro().logits[:BATCH], rounded) + 20


@pytest.mark.parametrize("name", TARGETS)
def test_it_has_every_tensor_that_the_program_stores(name: str) -> None:
    assert {" ".join(tensor.key) for tensor in switched(name).tensors} == set(stored_ranges(quantized(name)))


def test_a_recipe_that_rounds_weights_only_has_weights_only() -> None:
    tensors = switched("coreml", "w8a16").tensors
    assert {tensor.kind for tensor in tensors} == {"weight"}
    sizes = {f"{layer}.{tensor}": size for (layer, tensor), size in ((t.key, t.elements) for t in tensors)}
    floats = {name: value.numel() for name, value in micro().model.state_dict().items()}
    weights = {name: size for name, size in sizes.items() if name.endswith(".weight")}
    assert len(weights) == CONVS + LINEARS and weights.items() <= floats.items()


@pytest.mark.parametrize("name", ["executorch", "onnx"])
def test_what_is_taken_from_the_whole_run_is_what_a_run_of_its_own_gives(name: str) -> None:
    program, images = switched(name), micro().images[:BATCH]
    with torch.no_grad():
        floats, whole = program.run(images, frozenset()), program.run(images, program.every)
        for tensor in program.tensors[::5]:
            for rounded, known in ((tensor.nodes, floats), (program.every - tensor.nodes, whole)):
                again = program.logits(program.run_again(known, rounded, tensor.nodes))
                assert torch.equal(again, program.logits(program.run(images, rounded))), tensor.key


def test_the_noise_of_a_tensor_is_that_of_the_images_and_not_of_the_padding() -> None:
    found, program = judged("onnx"), switched("onnx")
    assert found.whole.images == 6
    tensor = next(tensor for tensor in program.tensors if tensor.key == ("head", "weight"))
    with torch.no_grad():
        batches = [program.run(batch, tensor.nodes) for batch in micro().images.split(BATCH)]
    alone = torch.cat([program.logits(values) for values in batches])[:6].numpy()
    expected = sqnr_db(micro().logits[:6], alone)
    assert found.alone["head", "weight"].sqnr_db == pytest.approx(expected, abs=0.01)
    changed = np.mean(alone.argmax(1) != micro().logits[:6].argmax(1))
    assert found.alone["head", "weight"].changed_pct == pytest.approx(100 * changed)


@pytest.mark.parametrize("name", TARGETS)
def test_a_tensor_that_is_rounded_too_coarsely_is_the_worst_and_gains_most(name: str) -> None:
    scene, coarse = micro(), ("stem.2", "output")
    prepared = prepare(trace(scene.model, scene.images), FULL, TARGETS[name].scheme, scene.histograms)
    (tensor,) = [tensor for tensor in SwitchedProgram(prepared).tensors if tensor.key == coarse]
    for node in tensor.nodes:
        observer = getattr(prepared, str(node.target))
        scale, zero_point = (float(number) for number in observer.calculate_qparams())
        observer.fixed = QParams(32 * scale, round(zero_point))
    found = sensitivity(prepared, [scene.images])
    assert min(found.alone, key=lambda key: found.alone[key].sqnr_db) == coarse
    assert max(found.without, key=lambda key: found.without[key].sqnr_db) == coarse
    assert found.without[coarse].sqnr_db > found.whole.sqnr_db + 1


def test_the_multiply_adds_are_those_that_torch_counts() -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        micro().model(micro().images[:1])
    flops = {str(operator): count for operator, count in counter.get_flop_counts()["Global"].items()}
    macs = {tensor.key: tensor.macs for tensor in switched("executorch").tensors}
    assert 2 * sum(macs[key] for key in macs if key[1] == "weight") == flops["aten.convolution"] + flops["aten.addmm"]
    # Of the products of an attention, q @ k reads tensors that this target stores: 2 heads, 16 x 16 tokens, 16 wide.
    assert macs["blocks.0.k", "output"] == macs["blocks.0.q", "output"] == 2 * 16 * 16 * 16


def test_no_image_is_refused() -> None:
    scene = micro()
    prepared = prepare(trace(scene.model, scene.images[:1]), FULL, TARGETS["onnx"].scheme, scene.histograms)
    with pytest.raises(ValueError, match="no image"):
        sensitivity(prepared, [])
