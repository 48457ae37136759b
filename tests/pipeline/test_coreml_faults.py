"""A fault in the saved ``.mlpackage`` stops the build; one that gets into a bundle later fails the gate of ``eval``."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch.export import ExportedProgram

from levit_edge.bundle import open_bundle, write_manifest
from levit_edge.cli import run
from levit_edge.files import sha256_tree
from levit_edge.pipeline import build
from targets.registry import TARGETS
from tests.levit_edge.commands import one_line
from tests.pipeline.conftest import SAMPLES, Built
from tests.targets.mil.faults import (
    bound,
    drop_bias,
    edited,
    find,
    outputs,
    shift_zero_point,
    square_layers,
    transpose_weight,
    zero_points,
)

Fault = Callable[[Path], None]


def _double_scale(package: Path, quantize: str) -> None:
    """Twice the scale for the ``quantize`` that writes a tensor, and for all that share the constant."""
    with edited(package) as program:
        constant = find(program.operations, bound(find(program.operations, quantize), "scale"))
        stored = constant.attributes["val"].immediateValue.tensor.bytes
        stored.values = (np.frombuffer(stored.values, np.float16) * np.float16(2)).tobytes()


FAULTS: dict[str, tuple[Fault, str]] = {
    "an early zero point": (lambda p: shift_zero_point(p, zero_points(p)[1], 1), "zero point "),
    "a late zero point": (lambda p: shift_zero_point(p, zero_points(p)[-1], 1), "zero point "),
    "a scale": (lambda p: _double_scale(p, outputs(p, "quantize")[7]), "scale "),
    "a transposed weight": (lambda p: transpose_weight(p, square_layers(p)[0]), "the int8 weight of "),
    "an early bias": (lambda p: drop_bias(p, outputs(p, "conv")[0]), "stem.0.bias of the program"),
    "a late bias": (lambda p: drop_bias(p, outputs(p, "linear")[-1]), "head.bias of the program"),
}


def _planted(monkeypatch: pytest.MonkeyPatch, model_file: str, fault: Fault) -> None:
    """Let Core ML's lowering end with ``fault`` in the file of that name."""
    lower = TARGETS["coreml"].lower

    def faulty(program: ExportedProgram, path: Path, half: bool) -> None:
        lower(program, path, half)
        if path.name == model_file:
            fault(path)

    monkeypatch.setitem(TARGETS, "coreml", replace(TARGETS["coreml"], lower=faulty))


def _build(built: Built, out: Path) -> int:
    images, samples = str(built.images), str(SAMPLES)
    words = ["build", "--model", str(built.model), "--target", "coreml", "--calibration", images, "--samples", samples]
    return run([*words, "--out", str(out)])


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_int8_package_stops_the_build(
    name: str, built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fault, line = FAULTS[name]
    _planted(monkeypatch, "model.mlpackage", fault)
    assert _build(built, tmp_path / "dist") == 4
    said = capfd.readouterr().err.splitlines()[-1]
    print(said)
    assert f"levit-edge: error: model.mlpackage: {line}" in said
    assert not list((tmp_path / "dist").rglob("*"))
