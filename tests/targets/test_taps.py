"""Each runtime's layers: reading them changes nothing, and they are those of the program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from levit_edge.errors import InputError
from targets.ort import tap as ort_tap
from targets.program import Layer, check_aligned
from targets.program import replay as program_tap
from targets.registry import TARGETS
from targets.runner import Image
from targets.target import Contents
from tests.programs import FULL, micro, quantized
from tests.targets.conftest import Written
from tests.targets.models import CASES, DAMAGE

IMAGES = [image.numpy() for image in micro().images[:2].split(1)]
FLOAT_STEP = 255  # a layer that is not stored may be off by this part of its range


def tap(name: str, path: Path, image: Image) -> tuple[Layer, ...]:
    found = TARGETS[name].backend.tap
    assert found is not None
    return found(path, image)


@pytest.mark.parametrize(("name", "recipe"), CASES)
def test_reading_the_layers_changes_no_bit_of_the_logits(name: str, recipe: str, written: Written) -> None:
    path = written(name, recipe)
    backend = TARGETS[name].backend
    runner = (backend.load_for_tap or backend.load)(path, 1)
    for image in IMAGES:
        assert np.array_equal(tap(name, path, image)[-1].values, runner(image))


@pytest.mark.parametrize(("name", "recipe"), CASES)
def test_each_layer_is_what_the_program_makes_of_those_before_it(name: str, recipe: str, written: Written) -> None:
    program = quantized(name, recipe)
    for image in IMAGES:
        found = tap(name, written(name, recipe), image)
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
    found = tap(name, written(name, FULL.name), IMAGES[0])
    expected = program_tap.tap(quantized(name), IMAGES[0])
    for layer, other in zip(found, expected, strict=True):
        if other.affine is not None:
            assert layer.affine is not None and layer.affine.zero_point == other.affine.zero_point
            assert layer.affine.scale == pytest.approx(other.affine.scale, rel=1e-3)


def _computing(contents: Contents) -> list[tuple[str, str, int]]:
    return [(row.name, row.precision, row.count) for row in contents.operators if row.precision != "move"]


def test_onnx_runtime_chooses_the_same_kernels(written: Written, tmp_path: Path) -> None:
    model = onnx.load(written("onnx", FULL.name))
    before = len(model.graph.output)
    ort_tap.add_outputs(model)
    assert len(model.graph.output) > before
    onnx.save(model, tmp_path / "tapped.onnx")
    contents = TARGETS["onnx"].backend.contents
    assert _computing(contents(tmp_path / "tapped.onnx")) == _computing(contents(written("onnx", FULL.name)))


@pytest.mark.parametrize("kind", [*DAMAGE, "absent"])
@pytest.mark.parametrize("name", ["onnx", "executorch"])
def test_a_damaged_or_absent_file_is_one_line(name: str, kind: str, written: Written, tmp_path: Path) -> None:
    path = tmp_path / TARGETS[name].model_file
    if kind in DAMAGE:
        path.write_bytes(DAMAGE[kind](written(name, "fp32").read_bytes()))
    with pytest.raises(InputError, match=rf"{path.name} is not ") as caught:
        tap(name, path, IMAGES[0])
    assert "\n" not in str(caught.value)
