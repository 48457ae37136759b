"""Every target's model file against its program: healthy files have no departure, planted faults are named."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from levit_edge.metrics.program_match import ProgramMatch
from quantize.flow import trace
from quantize.names import layer_name
from targets.coreml.constants import file_graph as coreml_graph
from targets.coreml.half_constants import rounded
from targets.coreml.mil.reading import read as read_package
from targets.ort import verify as ort_verify
from targets.ort.constants import file_graph as onnx_graph
from targets.ort.tap import open_tap
from targets.program import constants
from targets.program.constants import Graph
from targets.program.facts import program_graph
from targets.program.judge import judge
from targets.program.replay import layer_nodes
from targets.registry import TARGETS
from targets.xnnpack.bias import bias_facts
from targets.xnnpack.constants import file_graph as pte_graph
from targets.xnnpack.program_file import read_program
from tests.programs import ATTENTIONS, CONVS, FULL, LINEARS, PLANS, micro, quantized
from tests.targets.conftest import Written
from tests.targets.coreml.mil import faults as packages
from tests.targets.models import CASES
from tests.targets.program.faults import PLANTS, mask_input

LAYERS = CONVS + LINEARS + 2 * ATTENTIONS
IMAGES = micro().images[:2].numpy()
NAMES = [layer_name(node) for node in layer_nodes(quantized("onnx", "fp32").graph)]
# Square weights, which can be transposed without a runtime noticing, of an attention with two heads.
SQUARE = {"blocks.0.q": 4, "blocks.0.k": 5}


def match(name: str, path: Path, recipe: str = FULL.name, images: int = 1) -> ProgramMatch:
    verify = TARGETS[name].backend.verify
    assert verify is not None
    return verify(path, quantized(name, recipe), PLANS[recipe].half, IMAGES[:images])


def copy(name: str, written: Written, folder: Path, recipe: str = FULL.name) -> Path:
    """A copy of a healthy model file, to plant faults in."""
    source, target = written(name, recipe), folder / TARGETS[name].model_file
    return Path(shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target))


@cache
def wanted(name: str) -> Graph:
    """The constants of the int8 program as the target stores them."""
    program = quantized(name)
    return program_graph(program, rounded if name == "coreml" else None, bias_facts if name == "executorch" else None)


def constant_departures(name: str, found: Graph) -> tuple[str, ...]:
    return constants.departures(found, wanted(name), NAMES)


@pytest.mark.parametrize(("name", "recipe"), CASES)
def test_a_healthy_file_has_no_departure(name: str, recipe: str, written: Written) -> None:
    found = match(name, written(name, recipe), recipe, images=2)
    assert found.departures == () and found.layers == LAYERS
    # A weight and a bias for each layer that has them, and the attention biases.
    assert found.constants >= 2 * (CONVS + LINEARS) + ATTENTIONS
    if recipe == "int8":
        assert found.constants > 3 * LAYERS


@pytest.mark.parametrize("name", TARGETS)
def test_the_program_of_another_recipe_is_another(name: str, written: Written) -> None:
    verify = TARGETS[name].backend.verify
    assert verify is not None
    found = verify(written(name, FULL.name), quantized(name, "fp32"), FULL.half, IMAGES[:1])
    assert len(found.departures) > LAYERS


FAULTS = ("transposed weight", "swapped heads", "one channel", "dropped bias")


@pytest.mark.parametrize(("name", "fault"), [(name, fault) for name in TARGETS for fault in FAULTS])
def test_a_fault_in_a_layer_is_named_by_constants_and_by_layers(
    fault: str, name: str, written: Written, tmp_path: Path
) -> None:
    for layer, index in SQUARE.items():
        (tmp_path / layer).mkdir()
        path = copy(name, written, tmp_path / layer)
        PLANTS[name](path, index, fault)
        found = match(name, path).departures
        constant, *others = found
        assert constant.startswith(f"{layer}: ")
        lost = constant.endswith(": float tensor [32] of the program is not in the file")
        assert lost or "in the file differs from the program's" in constant
        if fault != "one channel":  # a weight that is one step off may leave every integer as it was
            assert len(others) == 1 and others[0].startswith(f"{layer}: ") and "are wrong, the worst by" in others[0]
        assert all(line.startswith(f"{layer}: ") for line in others)


def test_every_zero_point_of_an_onnx_that_is_one_off_is_named(written: Written) -> None:
    model = onnx.load(written("onnx", FULL.name))
    scalars = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if not t.dims}
    nodes = [node for node in model.graph.node if len(node.input) == 3 and node.input[2] in scalars]
    assert len(nodes) > 60
    for node in nodes:
        kept = node.input[2]
        value = scalars[kept]
        shifted = value + value.dtype.type(1) if value < 255 else value - value.dtype.type(1)
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(shifted), "shifted"))
        node.input[2] = "shifted"
        found = constant_departures("onnx", onnx_graph(model))
        assert found and f"with zero point {int(shifted)} " in found[0], node.name
        node.input[2] = kept
        del model.graph.initializer[-1]
    assert constant_departures("onnx", onnx_graph(model)) == ()


def test_every_zero_point_and_scale_of_a_pte_that_is_off_is_named(written: Written) -> None:
    program = read_program(written("executorch", FULL.name))
    values = [getattr(value.xvalueUnion, "quantParams", None) for value in program.payloads[0].graph.xvalues]
    stored = [value for value in values if hasattr(value, "zeroPoint")]
    assert len(stored) > 60
    for parameters in stored:
        kept = parameters.zeroPoint, parameters.scale
        parameters.zeroPoint += 1
        found = constant_departures("executorch", pte_graph(program))
        assert found and f"with zero point {parameters.zeroPoint + 128} " in found[0]
        parameters.zeroPoint = kept[0]
        parameters.scale = float(np.nextafter(np.float32(kept[1]), np.float32(1)))
        assert constant_departures("executorch", pte_graph(program))
        parameters.scale = kept[1]
    assert constant_departures("executorch", pte_graph(program)) == ()


def test_every_zero_point_of_a_package_that_is_one_off_is_named(written: Written, tmp_path: Path) -> None:
    for name in packages.zero_points(written("coreml", FULL.name)):
        path = copy("coreml", written, tmp_path)
        packages.shift_zero_point(path, name, 1)
        (line,) = constant_departures("coreml", coreml_graph(read_package(path)))
        assert " with zero point " in line and line.split(":")[0] in NAMES
        shutil.rmtree(path)


def test_every_dropped_bias_of_a_package_is_named(written: Written, tmp_path: Path) -> None:
    healthy = written("coreml", FULL.name)
    for name in [*packages.outputs(healthy, "conv"), *packages.outputs(healthy, "linear")]:
        path = copy("coreml", written, tmp_path)
        packages.drop_bias(path, name)
        (line,) = constant_departures("coreml", coreml_graph(read_package(path)))
        assert line.endswith(" of the program is not in the file") and line.split(":")[0] in NAMES
        shutil.rmtree(path)


def test_constants_in_each_others_place_are_named_with_both_layers(written: Written, tmp_path: Path) -> None:
    """The first two linear layers, queries and keys of the same size, get each other's biases."""
    path = copy("coreml", written, tmp_path)
    with packages.edited(path) as program:
        layers = [packages.find(program.operations, name) for name in packages.outputs(path, "linear")[:2]]
        one, other = (packages.find(program.operations, packages.bound(layer, "bias")) for layer in layers)
        kept = type(one).FromString(one.SerializeToString())
        one.attributes["val"].CopyFrom(other.attributes["val"])
        other.attributes["val"].CopyFrom(kept.attributes["val"])
    found = match("coreml", path).departures
    assert [line.split(":")[0] for line in found] == ["blocks.0.q", "blocks.0.k"] * 2


@pytest.mark.parametrize("recipe", ["int8", "fp32"])
def test_a_lost_tile_or_token_is_found_by_the_layer_alone(recipe: str, written: Written, tmp_path: Path) -> None:
    tile = np.ones((1, 1, 64, 64))
    tile[:, :, 8:12, 20:24] = 0
    token = np.ones((16, 1))
    token[5] = 0
    for index, mask, where in ((0, tile, "rows 4 to 6, columns 10 to 12"), (4, token, "token 5")):
        path = copy("onnx", written, tmp_path, recipe)
        mask_input(path, index, mask)
        tapped = open_tap(path)(IMAGES[:1])
        module = quantized("onnx", recipe).module()
        reasons = judge(module, IMAGES[:1], tapped)
        assert [NAMES[i] for i, reason in enumerate(reasons) if reason] == [NAMES[index]]
        assert f"({where})" in reasons[index]
        assert match("onnx", path, recipe).departures[0].startswith(f"{NAMES[index]}: the file has float tensor ")


def test_saturating_kernels_are_not_the_fault_of_the_file(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the default kernels give other values, those that never saturate decide."""
    exactly = []

    def saturating(path: Path, *, exact: bool = False):  # type: ignore[no-untyped-def]
        exactly.append(exact)
        healthy = open_tap(path, exact=exact)

        def tap(image):  # type: ignore[no-untyped-def]
            first, *others = healthy(image)
            if not exact:
                first.data[0, 0] += 9
            return (first, *others)

        return tap

    monkeypatch.setattr(ort_verify, "open_tap", saturating)
    assert match("onnx", written("onnx", FULL.name)).departures == () and exactly == [False, True]


def test_a_layer_too_many_is_one_line(tmp_path: Path) -> None:
    torch.manual_seed(0)
    rows = torch.randn(1, 8)
    one, two = nn.Sequential(nn.Linear(8, 8)), nn.Sequential(nn.Linear(8, 8), nn.Hardswish(), nn.Linear(8, 4))
    programs = [trace(model.eval().requires_grad_(False), rows) for model in (one, two)]
    for name in ("onnx", "coreml"):
        path = tmp_path / TARGETS[name].model_file
        TARGETS[name].backend.lower(programs[1], path, False)
        verify = TARGETS[name].backend.verify
        assert verify is not None
        found = verify(path, programs[0], False, rows.numpy())
        assert found == ProgramMatch(constants=0, layers=0, departures=("the file has 2 layers, the program 1",))


def test_an_activation_that_the_converter_changes_shows_in_the_layer_behind_it(tmp_path: Path) -> None:
    """coremltools 9 converts the GELU with tanh to the exact one, which is 0.0005 off at most."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.GELU(approximate="tanh"), nn.Linear(32, 4)).eval().requires_grad_(False)
    rows = 2 * torch.randn(1, 8)
    program, path = trace(model, rows), tmp_path / "model.mlpackage"
    backend = TARGETS["coreml"].backend
    backend.lower(program, path, False)
    assert backend.verify is not None
    found = backend.verify(path, program, False, rows.numpy())
    (line,) = found.departures
    assert line.startswith("2: ") and "are wrong, the worst by" in line
