"""Trace, calibrate, quantize: whole programs in, whole programs out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import fx

from levit_edge.errors import InputError
from levit_edge.pipeline.verify import sqnr_db
from quantize.flow import calibrate, quantize, trace
from quantize.names import activation_key
from quantize.recipes import RECIPES
from quantize.roles import LAYERS, aten, role
from quantize.scheme import READ_AS_FLOATS
from targets.program.parameters import stored_ranges
from targets.registry import TARGETS
from tests.programs import (
    ATTENTIONS,
    CONVS,
    DEQUANTIZE,
    DEQUANTIZE_CHANNELS,
    FULL,
    LINEARS,
    QUANTIZE,
    micro,
    nodes,
    quantized,
    run,
)


def test_the_traced_program_is_the_model() -> None:
    found = run(micro().program, micro().images)
    with torch.no_grad():
        expected = torch.cat([micro().model(image) for image in micro().images.split(1)]).numpy()
    assert np.array_equal(found, expected)


def test_calibration_does_not_depend_on_order_or_batches() -> None:
    images = micro().calibration
    shuffled = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(3))]
    again = calibrate(micro().program, shuffled.split(3))
    assert again.keys() == micro().histograms.keys()
    for name, histogram in again.items():
        before = micro().histograms[name]
        bounds = (before.limit, before.minimum, before.maximum)
        assert (histogram.limit, histogram.minimum, histogram.maximum) == bounds, name
        assert np.array_equal(histogram.counts, before.counts), name


def test_every_image_counts() -> None:
    fewer = calibrate(micro().program, [micro().calibration[:-1]])
    image = np.prod(micro().example.shape)
    for name, images in ((fewer, 7), (micro().histograms, 8)):
        assert name["pixel_values"].counts.sum() == images * image


def test_an_image_of_nan_is_refused() -> None:
    bad = micro().calibration.clone()
    bad[3, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="a calibration image makes the model produce NaN or infinity"):
        calibrate(micro().program, [bad])


def test_calibrating_on_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^no calibration image was given$"):
        calibrate(micro().program, [])


@pytest.mark.parametrize("name", ["fp32", "fp16"])
def test_a_recipe_without_int8_gives_the_program_back(name: str) -> None:
    program = micro().program
    assert quantize(program, micro().example, RECIPES[name], TARGETS["coreml"].scheme, {}) is program


def test_weights_only_leaves_every_activation_alone() -> None:
    module = quantized("coreml", "w8a16").module()
    assert not list(nodes(module, QUANTIZE)) and not list(nodes(module, DEQUANTIZE))
    assert len(list(nodes(module, DEQUANTIZE_CHANNELS))) == CONVS + LINEARS + ATTENTIONS
    for node in module.graph.nodes:
        if node.target in LAYERS:
            assert node.all_input_nodes[1].target == DEQUANTIZE_CHANNELS
    assert sqnr_db(micro().logits, run(quantized("coreml", "w8a16"), micro().images)) >= 38


def test_weights_only_needs_no_images() -> None:
    program = quantize(micro().program, micro().example, RECIPES["w8a16"], TARGETS["coreml"].scheme, {})
    assert np.array_equal(run(program, micro().images), run(quantized("coreml", "w8a16"), micro().images))


@pytest.mark.parametrize(
    ("name", "role"),
    [("coreml", "image"), ("coreml", "layer"), ("executorch", "pooled"), ("onnx", "hardswish")],
)
def test_a_role_that_may_stay_float_does(name: str, role: str) -> None:
    scene, scheme = micro(), TARGETS[name].scheme
    recipe = replace(FULL, keep_float=(role,))
    program = quantize(scene.program, scene.example, recipe, scheme, scene.histograms)
    assert sqnr_db(scene.logits, run(program, scene.images)) >= 30
    assert len(list(nodes(program.module(), QUANTIZE))) < len(list(nodes(quantized(name).module(), QUANTIZE)))


@pytest.mark.parametrize("name", TARGETS)
def test_a_tensor_that_is_named_stays_float_and_the_others_do_not(name: str) -> None:
    scene, scheme = micro(), TARGETS[name].scheme
    recipe = replace(FULL, keep_float=("image", "blocks.1.up input"))
    ranges = stored_ranges(quantize(scene.program, scene.example, recipe, scheme, scene.histograms))
    before = stored_ranges(quantized(name))
    gone = {f"{layer} {tensor}" for layer in ("stem.0", "blocks.1.up") for tensor in ("input", "weight", "output")}
    gates = {"stem.1 add", "blocks.1.down add"} if name == "onnx" else set()  # of a Hardswish that is float now
    assert set(ranges) == set(before) - gone - gates


@pytest.mark.parametrize("name", TARGETS)
def test_a_layer_that_is_named_computes_in_float_and_its_neighbours_do_not(name: str) -> None:
    scene, scheme = micro(), TARGETS[name].scheme
    recipe = replace(FULL, keep_float=("blocks.0.k layer", "blocks.1.down layer"))
    program = quantize(scene.program, scene.example, recipe, scheme, scene.histograms)
    gone = {f"{layer} {what}" for layer in ("blocks.0.k", "blocks.1.down") for what in ("weight", "output")}
    assert set(stored_ranges(program)) == set(stored_ranges(quantized(name))) - gone
    assert {"stem.3 output", "blocks.1.down input"} <= set(stored_ranges(program))


@pytest.mark.parametrize(
    ("name", "kept", "reason"),
    [
        (
            "executorch",
            "blocks.0.q output",
            "'blocks.0.q output', but an integer layer of this target gives only integers",
        ),
        (
            "onnx",
            "blocks.2.q output",
            "'blocks.2.q output', but an integer layer of this target gives only integers",
        ),
        ("onnx", "stem.0 outputs", "no tensor 'stem.0 outputs'; near: stem.0 output"),
        ("coreml", "one two", "no tensor 'one two'; near: "),
        ("coreml", "blocks.0 layer", "no tensor 'blocks.0 layer'; near: "),
        (
            "onnx",
            "head weight",
            "'head weight' cannot be kept float by itself; name its layer, or the input of it",
        ),
    ],
)
def test_a_tensor_that_cannot_stay_float_is_refused(name: str, kept: str, reason: str) -> None:
    scene, recipe = micro(), replace(FULL, keep_float=(kept,))
    with pytest.raises(InputError, match=reason):
        quantize(scene.program, scene.example, recipe, TARGETS[name].scheme, scene.histograms)


def _read_as_floats() -> dict[str, fx.Node]:
    """What only attention, the residual stream and the user read, by name."""
    graph = micro().program.module().graph
    return {" ".join(activation_key([node])): node for node in graph.nodes if role(node) in READ_AS_FLOATS}


@pytest.mark.parametrize("name", TARGETS)
def test_what_only_attention_and_the_residual_stream_read_is_not_clipped(name: str) -> None:
    scene, recipe = micro(), replace(FULL, activation_error="behind")
    program = quantize(scene.program, scene.example, recipe, TARGETS[name].scheme, scene.histograms)
    clipped, ranges = stored_ranges(quantized(name)), stored_ranges(program)
    checked = _read_as_floats().keys() & ranges.keys()
    assert len(checked) == {"executorch": 14, "coreml": 0, "onnx": 2}[name]  # ONNX Runtime: q of a convolution
    for tensor in checked:
        (low, high), seen = ranges[tensor], scene.histograms[_read_as_floats()[tensor].name]
        step = (high - low) / 255
        assert low - step < seen.minimum < seen.maximum < high + step
    clips = [tensor for tensor in checked if np.ptp(clipped[tensor]) < np.ptp(ranges[tensor])]
    assert len(clips) >= {"executorch": 7, "coreml": 0, "onnx": 0}[name]  # with the error of the tensor itself


@pytest.mark.parametrize("name", TARGETS)
def test_the_error_behind_hardswish_changes_the_ranges_that_only_it_reads(name: str) -> None:
    scene, recipe = micro(), replace(FULL, activation_error="behind")
    program = quantize(scene.program, scene.example, recipe, TARGETS[name].scheme, scene.histograms)
    before, after = stored_ranges(quantized(name)), stored_ranges(program)
    assert set(before) == set(after)
    behind = {"stem.0 output", "stem.1 output", "stem.2 output"}
    behind |= {tensor for tensor in before if tensor.endswith((".up output", "mlp output"))}
    changed = {tensor for tensor in before if before[tensor] != after[tensor]}
    assert {"stem.0 output"} <= changed - _read_as_floats().keys() <= behind
    assert sqnr_db(scene.logits, run(program, scene.images)) >= 30


def test_a_float_layer_gives_floats_on_every_target() -> None:
    scene, recipe = micro(), replace(FULL, keep_float=("pooled",))
    for target in TARGETS.values():
        program = quantize(scene.program, scene.example, recipe, target.scheme, scene.histograms)
        assert not {"head input", "head weight", "head output"} & set(stored_ranges(program))


def test_minmax_and_mse_differ_and_both_work() -> None:
    recipe = replace(FULL, activation_range="minmax", weight_range="mse")
    scene, scheme = micro(), TARGETS["executorch"].scheme
    plain = run(quantize(scene.program, scene.example, recipe, scheme, scene.histograms), scene.images)
    assert not np.array_equal(plain, run(quantized("executorch"), scene.images))
    assert sqnr_db(scene.logits, plain) >= 30


def test_tracing_takes_the_shape_of_its_image() -> None:
    program = trace(micro().model, micro().images[:2])
    assert [node.target for node in program.graph.nodes].count(aten.softmax.int) == ATTENTIONS
    with pytest.raises(Exception, match=r"shape|size"):
        program.module()(micro().images[:1])
