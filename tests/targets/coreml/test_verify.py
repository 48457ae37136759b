"""A saved package has every constant of its program, and each of its layers computes what the program does."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from levit_edge.errors import LevitEdgeError
from quantize.flow import trace
from quantize.recipes import RECIPES
from targets.coreml.lower import lower
from targets.coreml.verify import verify
from targets.coreml.verify.constants import check_constants
from targets.coreml.verify.layers import LAYER_DB, LAYER_IMAGES, layers_db
from tests.programs import ATTENTIONS, CONVS, LINEARS, micro, quantized
from tests.targets.conftest import Written
from tests.targets.coreml.mil.faults import (
    block,
    bound,
    drop_bias,
    edited,
    find,
    outputs,
    read,
    shift_zero_point,
    square_layers,
    transpose_weight,
    zero_points,
)

HEALTHY_DB = 130.0
IMAGES = micro().images.numpy()[:LAYER_IMAGES]


@pytest.fixture
def package(written: Written, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written("coreml", "int8"), tmp_path / "model.mlpackage"))


def _layers_db(package: Path) -> dict[str, float]:
    return layers_db(package, quantized("coreml"), True, IMAGES)


def _reason(package: Path) -> str:
    """Why the constants are refused."""
    with pytest.raises(LevitEdgeError) as caught:
        check_constants(package, quantized("coreml"), True)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_healthy_package_passes(recipe: str, written: Written) -> None:
    path, program, half = written("coreml", recipe), quantized("coreml", recipe), RECIPES[recipe].half
    verify(path, program, half, IMAGES)
    found = layers_db(path, program, half, IMAGES)
    assert len(found) == CONVS + LINEARS + 2 * ATTENTIONS
    assert min(found.values()) >= HEALTHY_DB > LAYER_DB


def test_the_package_of_another_recipe_is_another(written: Written) -> None:
    with pytest.raises(LevitEdgeError, match=r"is not in the (program|file)"):
        check_constants(written("coreml", "w8a16"), quantized("coreml"), True)
    with pytest.raises(LevitEdgeError):
        check_constants(written("coreml", "fp16"), quantized("coreml", "fp16"), False)


def test_every_zero_point_that_is_one_off_is_named(package: Path, tmp_path: Path) -> None:
    for name in zero_points(package):
        faulty = Path(shutil.copytree(package, tmp_path / "faulty.mlpackage"))
        shift_zero_point(faulty, name, 1)
        reason = _reason(faulty)
        assert reason.startswith("faulty.mlpackage: zero point ") and f" of dequantize '{name}' is not" in reason
        shutil.rmtree(faulty)


def test_a_zero_point_that_another_quantize_has_is_not_that_of_its_own(package: Path) -> None:
    with edited(package) as program:
        shifted = [op for op in program.operations if op.type == "dequantize" and "zero_point" in op.inputs]
        other, one = shifted[1], shifted[-1]
        for argument in ("scale", "zero_point"):
            one.inputs[argument].CopyFrom(other.inputs[argument])
        name = one.outputs[0].name
    assert _reason(package).endswith(f"of dequantize '{name}' is not that of its quantize; nothing was written")


def test_every_dropped_bias_is_named(package: Path, tmp_path: Path) -> None:
    for name in [*outputs(package, "conv"), *outputs(package, "linear")]:
        faulty = Path(shutil.copytree(package, tmp_path / "faulty.mlpackage"))
        drop_bias(faulty, name)
        assert _reason(faulty).endswith(".bias of the program is not in the file; nothing was written")
        shutil.rmtree(faulty)


def _other_axis(package: Path) -> None:
    name = next(op.outputs[0].name for op in block(read(package)).operations if op.type.startswith("constexpr_"))
    with edited(package) as program:
        stored = find(program.operations, name).attributes["axis"].immediateValue.tensor
        stored.ints.values[0] = 1


def _swap_biases(package: Path) -> None:
    """The first two linear layers, queries and keys of the same size, get each other's biases."""
    with edited(package) as program:
        layers = [find(program.operations, name) for name in outputs(package, "linear")[:2]]
        one, other = (find(program.operations, bound(layer, "bias")).attributes["val"] for layer in layers)
        kept = type(one).FromString(one.SerializeToString())
        one.CopyFrom(other)
        other.CopyFrom(kept)


def test_the_axis_of_the_scales_is_part_of_a_weight(package: Path) -> None:
    _other_axis(package)
    assert ": a scale of the weight of constexpr_affine_dequantize '" in _reason(package)


def test_constants_in_each_others_place_show_in_the_layers(package: Path) -> None:
    _swap_biases(package)
    check_constants(package, quantized("coreml"), True)
    departing = [name for name, found_db in _layers_db(package).items() if found_db < LAYER_DB]
    assert departing == outputs(package, "linear")[:2]
    with pytest.raises(LevitEdgeError, match=rf"layer '{departing[0]}' does not compute what the program does \("):
        verify(package, quantized("coreml"), True, IMAGES)


def test_a_zero_point_shows_in_the_layers_that_read_it(package: Path, tmp_path: Path) -> None:
    for name in zero_points(package)[::6]:
        faulty = Path(shutil.copytree(package, tmp_path / "faulty.mlpackage"))
        shift_zero_point(faulty, name, 1)
        assert 1 <= sum(found_db < LAYER_DB for found_db in _layers_db(faulty).values()) <= 4
        shutil.rmtree(faulty)


@pytest.mark.parametrize("index", [0, -1])
def test_a_transposed_weight_shows_in_its_own_layer(index: int, package: Path) -> None:
    name = square_layers(package)[index]
    transpose_weight(package, name)
    assert ": the int8 weight of constexpr_affine_dequantize '" in _reason(package)
    assert [layer for layer, found_db in _layers_db(package).items() if found_db < LAYER_DB] == [name]


def test_one_image_is_enough(package: Path) -> None:
    verify(package, quantized("coreml"), True, IMAGES[:1])
    verify(package, quantized("coreml"), True, np.zeros_like(IMAGES[:1]))


def test_an_activation_that_the_converter_changes_shows_in_the_layer_behind_it(tmp_path: Path) -> None:
    """coremltools 9 converts the GELU with tanh to the exact one, which is 0.0005 off at most."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.GELU(approximate="tanh"), nn.Linear(32, 4)).eval().requires_grad_(False)
    rows = 2 * torch.randn(2, 8)
    program, path = trace(model, rows[:1]), tmp_path / "model.mlpackage"
    lower(program, path, False)
    check_constants(path, program, False)
    with pytest.raises(LevitEdgeError, match=r"layer 'logits' does not compute what the program does \("):
        verify(path, program, False, rows.numpy())
