"""Each runtime's layers: reading them changes nothing, and they are those of the program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from levit_edge.errors import InputError
from quantize.flow import trace
from quantize.recipes import RECIPES
from targets.ort import tap as ort_tap
from targets.ort import target as ort
from targets.program import PROBES, check_aligned, probe
from targets.program import replay as program_tap
from targets.registry import TARGETS
from targets.target import Contents
from targets.xnnpack import graph as xnngraph
from targets.xnnpack import tap as xnnpack_tap
from targets.xnnpack import target as xnnpack
from tests.programs import micro, quantized
from tests.targets.conftest import Written
from tests.targets.models import DAMAGE

IMAGES = [image.numpy() for image in micro().images[:2].split(1)]
CASES = [
    (name, key) for name in TARGETS for key, recipe in RECIPES.items() if name == "coreml" or not recipe.needs_float16
]
FLOAT_STEP = 255  # a layer that is not stored may be off by this part of its range


@pytest.mark.parametrize(("name", "recipe"), CASES)
def test_reading_the_layers_changes_no_bit_of_the_logits(name: str, recipe: str, written: Written) -> None:
    path = written(name, recipe)
    runner = PROBES[name].load(path)
    for image in IMAGES:
        assert np.array_equal(PROBES[name].tap(path, image)[-1].values, runner(image))


@pytest.mark.parametrize(("name", "recipe"), CASES)
def test_each_layer_is_what_the_program_makes_of_those_before_it(name: str, recipe: str, written: Written) -> None:
    program = quantized(name, recipe)
    for image in IMAGES:
        found = PROBES[name].tap(written(name, recipe), image)
        expected = program_tap.replay(program, image, found)
        check_aligned(found, expected, name, "program")
        for layer, other in zip(found, expected, strict=True):
            if layer.affine is None or other.affine is None:
                assert layer.affine is other.affine
                assert np.abs(layer.values - other.values).max() <= np.ptp(other.values) / FLOAT_STEP
            else:  # a tie may fall the other way
                assert np.abs(layer.data.astype(int) - other.data).max() <= 1


@pytest.mark.parametrize("name", TARGETS)
def test_a_layer_is_stored_with_the_scale_of_the_program(name: str, written: Written) -> None:
    found = PROBES[name].tap(written(name, "int8"), IMAGES[0])
    expected = program_tap.tap(quantized(name), IMAGES[0])
    for layer, other in zip(found, expected, strict=True):
        if other.affine is not None:
            assert layer.affine is not None and layer.affine.zero_point == other.affine.zero_point
            assert layer.affine.scale == pytest.approx(other.affine.scale, rel=1e-3)


def _computing(contents: Contents) -> list[tuple[str, str, int]]:
    return [(row.name, row.precision, row.count) for row in contents.operators if row.precision != "move"]


def test_onnx_runtime_chooses_the_same_kernels(written: Written, tmp_path: Path) -> None:
    model = onnx.load(written("onnx", "int8"))
    before = len(model.graph.output)
    ort_tap.add_outputs(model)
    assert len(model.graph.output) > before
    onnx.save(model, tmp_path / "tapped.onnx")
    assert _computing(ort.contents(tmp_path / "tapped.onnx")) == _computing(ort.contents(written("onnx", "int8")))


def test_xnnpack_is_given_the_same_graph_with_more_outputs(written: Written, tmp_path: Path) -> None:
    path, copy = written("executorch", "int8"), tmp_path / "tapped.pte"
    layers = xnnpack_tap.write_tapped(path, copy)
    assert xnnpack.contents(copy) == xnnpack.contents(path)
    graphs = []
    for file in (path, copy):
        _, plan, delegate = xnnpack_tap._read(file)
        graphs.append(xnnpack.graph(bytes(delegate.data)))
        outputs = len(plan.outputs)
    assert outputs == 1 + len(layers)
    shown = {value.id for _, value in layers}
    for graph in graphs:
        for entry in graph["xvalues"]:
            tensor = entry["xvalue_union"].get("tensor_value", entry["xvalue_union"])
            if tensor["id_out"] in shown:
                tensor["flags"] = tensor["external_id"] = None
        graph["num_externs"] = None
    assert graphs[0] == graphs[1]


def test_a_graph_is_read_with_the_precision_of_its_file(written: Written) -> None:
    _, _, delegate = xnnpack_tap._read(written("executorch", "int8"))
    graph, constants = xnngraph.split_payload(bytes(delegate.data))
    assert xnngraph.split_payload(xnngraph.join_payload(graph, constants)) == (graph, constants)
    scales = {value.affine.scale for value in xnngraph.read_values(graph).values() if value.affine is not None}
    program = program_tap.tap(quantized("executorch"), IMAGES[0])
    assert {float(np.float32(layer.affine.scale)) for layer in program if layer.affine is not None} <= scales


def test_a_program_outside_the_delegate_is_refused(tmp_path: Path) -> None:
    from executorch.exir import to_edge_transform_and_lower

    path, image = tmp_path / "model.pte", torch.zeros(1, 4)
    model = torch.nn.Linear(4, 2).eval().requires_grad_(False)
    path.write_bytes(to_edge_transform_and_lower(trace(model, image)).to_executorch().buffer)
    with pytest.raises(InputError, match=r"model\.pte is not one XNNPACK delegate: it has 0; build it again"):
        xnnpack_tap.tap(path, image.numpy())


@pytest.mark.parametrize("kind", [*DAMAGE, "absent"])
@pytest.mark.parametrize("name", ["onnx", "executorch"])
def test_a_damaged_or_absent_file_is_one_line(name: str, kind: str, written: Written, tmp_path: Path) -> None:
    path = tmp_path / TARGETS[name].model_file
    if kind in DAMAGE:
        path.write_bytes(DAMAGE[kind](written(name, "fp32").read_bytes()))
    with pytest.raises(InputError, match=rf"{path.name} is not ") as caught:
        PROBES[name].tap(path, IMAGES[0])
    assert "\n" not in str(caught.value)


def test_an_unknown_target_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(InputError, match="unknown target 'tpu'; valid: executorch, coreml, onnx"):
        probe("tpu")
