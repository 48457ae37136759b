"""Faults in a saved package show in its logits, at least against the program with its constants as stored."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from levit_edge.metrics.sqnr import sqnr_db
from targets.coreml import mil
from targets.coreml.half_constants import half_constants
from tests.programs import FULL, micro, quantized, run
from tests.targets.conftest import Written
from tests.targets.coreml.mil.faults import (
    drop_bias,
    outputs,
    shift_zero_point,
    square_layers,
    transpose_weight,
    zero_points,
)

HEALTHY_DB = 38.0  # against the program; float16 scales, biases and activations cost the rest
STORED_DB = 90.0  # the median image against the program with the constants as they are stored
FAULTY_DB = 60.0  # of the same median image


@pytest.fixture
def package(written: Written, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written("coreml", FULL.name), tmp_path / "model.mlpackage"))


def _from_program_db(package: Path) -> float:
    """SQNR of all logits, float16 emulated, against the program that was converted."""
    found = mil.load(package).run(micro().images.numpy())
    return sqnr_db(run(quantized("coreml"), micro().images), found)


def _expected() -> NDArray[np.float32]:
    module = half_constants(quantized("coreml"))
    with torch.no_grad():
        logits: NDArray[np.float32] = torch.cat([module(one) for one in micro().images.split(1)]).numpy()
    return logits


def _from_stored_db(package: Path) -> float:
    """SQNR of the median image, in float32, against the program with the constants as they are stored."""
    found = mil.load(package).run(micro().images.numpy(), "float32")
    return float(np.median([sqnr_db(wanted, given) for wanted, given in zip(_expected(), found, strict=True)]))


def test_a_healthy_package_is_its_program(package: Path) -> None:
    assert _from_program_db(package) >= HEALTHY_DB
    assert _from_stored_db(package) >= STORED_DB


def test_without_the_rounding_of_constants_the_program_is_another(package: Path) -> None:
    found = mil.load(package).run(micro().images.numpy(), "float32")
    exact = run(quantized("coreml"), micro().images)
    assert sqnr_db(exact, _expected()) < 60.0
    assert sqnr_db(exact, found) < 60.0 < _from_stored_db(package)


def test_rounding_the_constants_leaves_the_program_as_it_was() -> None:
    before = run(quantized("coreml"), micro().images)
    half_constants(quantized("coreml"))
    assert np.array_equal(run(quantized("coreml"), micro().images), before)


@pytest.mark.slow
def test_a_zero_point_that_is_one_off_shows_against_the_stored_constants(package: Path, tmp_path: Path) -> None:
    hidden = []
    for index, output in enumerate(zero_points(package)[::3]):
        faulty = Path(shutil.copytree(package, tmp_path / f"{index}.mlpackage"))
        shift_zero_point(faulty, output, 1)
        hidden += [output] if _from_stored_db(faulty) >= FAULTY_DB else []
    # A shift of all keys cancels in softmax, and a shift of all values may cancel in the layer that reads them.
    assert len(hidden) <= len(zero_points(package)[::3]) // 4, hidden


@pytest.mark.parametrize("index", [0, 5, 12, 15])
def test_a_dropped_bias_shows(index: int, package: Path) -> None:
    drop_bias(package, outputs(package, "linear")[index])
    assert _from_stored_db(package) < FAULTY_DB


@pytest.mark.parametrize("index", [0, -1])
def test_a_transposed_weight_shows(index: int, package: Path) -> None:
    transpose_weight(package, square_layers(package)[index])
    assert _from_stored_db(package) < FAULTY_DB


def _last_zero_point(package: Path) -> None:
    shift_zero_point(package, zero_points(package)[-1], 16)


def _last_bias(package: Path) -> None:
    drop_bias(package, outputs(package, "linear")[-1])


def _a_middle_bias(package: Path) -> None:
    drop_bias(package, outputs(package, "linear")[12])


@pytest.mark.parametrize("fault", [_last_zero_point, _last_bias, _a_middle_bias])
def test_a_large_fault_shows_in_the_logits_alone(fault: Callable[[Path], None], package: Path) -> None:
    fault(package)
    assert _from_program_db(package) < HEALTHY_DB - 10
