"""A fault in the saved ``.mlpackage`` stops the build; one that gets into a bundle later fails the gate of ``eval``."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch.export import ExportedProgram

from levit_edge.bundle.files import sha256_tree
from levit_edge.bundle.manifest import open_bundle, write_manifest
from levit_edge.cli import run
from levit_edge.errors import VerificationFailed
from levit_edge.pipeline.build import build
from targets.registry import TARGETS
from tests.levit_edge.pipeline.conftest import SAMPLES, Built, change_backend
from tests.targets.coreml.mil.faults import (
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
    "an early zero point": (lambda p: shift_zero_point(p, zero_points(p)[1], 1), "scale "),
    "a late zero point": (lambda p: shift_zero_point(p, zero_points(p)[-1], 1), "scale "),
    "a scale": (lambda p: _double_scale(p, outputs(p, "quantize")[7]), "scale "),
    "a transposed weight": (
        lambda p: transpose_weight(p, square_layers(p)[0]),
        "int8 tensor [32, 32] in the file differs",
    ),
    "a dropped bias": (
        lambda p: drop_bias(p, outputs(p, "linear")[-1]),
        "float tensor [3] of the program is not in the file",
    ),
}


def _plant(monkeypatch: pytest.MonkeyPatch, model_file: str, fault: Fault) -> None:
    """Let Core ML's lowering end with ``fault`` in the file of that name."""
    lower = TARGETS["coreml"].backend.lower

    def faulty(program: ExportedProgram, path: Path, half: bool) -> None:
        lower(program, path, half)
        if path.name == model_file:
            fault(path)

    change_backend(monkeypatch, "coreml", lower=faulty)


@pytest.mark.slow  # every one is a whole build
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_int8_package_stops_the_build(
    name: str, built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fault, reason = FAULTS[name]
    _plant(monkeypatch, "model.mlpackage", fault)
    words = ["--model", str(built.model), "--calibration", str(built.images), "--samples", str(SAMPLES)]
    assert run(["build", "--target", "coreml", *words, "--out", str(tmp_path / "dist")]) == 1
    errors = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 1 and errors[0].endswith("; nothing was written")
    start = "levit-edge: error: model.mlpackage is not the program it was made from: "
    assert re.match(rf"{re.escape(start)}[a-z]+[a-z0-9_.]*: .*{re.escape(reason)}", errors[0])
    assert not list((tmp_path / "dist").rglob("*"))


def test_a_fault_in_the_float_reference_stops_the_build_and_leaves_the_previous_one(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    previous = Path(shutil.copytree(built.out, tmp_path / "dist"))
    before = sha256_tree(previous)
    _plant(monkeypatch, "model.fp32.mlpackage", lambda package: transpose_weight(package, square_layers(package)[-1]))
    with pytest.raises(
        VerificationFailed,
        match=r"^model\.fp32\.mlpackage is not the program it was made from: blocks\.\d\.\w+: float tensor",
    ):
        build(built.options(previous, targets=("coreml",)))
    assert sha256_tree(previous) == before


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["fp32", "fp16", "w8a16"])
def test_every_other_recipe_builds(recipe: str, built: Built, tmp_path: Path) -> None:
    report = build(built.options(tmp_path / "dist", targets=("coreml",), recipe=recipe, calibration=built.images))
    assert report.targets["coreml"].recipe == recipe


def test_a_gross_fault_that_a_manifest_vouches_for_fails_the_gate_of_eval(
    built: Built, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = Path(shutil.copytree(built.out / "coreml", tmp_path / "coreml"))
    limits = tmp_path / "gates.toml"  # 18 images decide no more than this
    limits.write_text('schema_version = 1\n[limits]\nmax_top1_drop_pp = "off"\nmin_agreement_pct = 60\n')
    words = ["eval", str(bundle), "--data", str(built.images), "--gates", str(limits), "--json"]
    assert run(words) == 0
    package = bundle / "model.mlpackage"
    for name in zero_points(package):
        shift_zero_point(package, name, 85)  # a third of the range
    write_manifest(bundle, open_bundle(bundle).manifest)
    capfd.readouterr()
    assert run(words) == 1
    gates = {gate["name"]: gate["passed"] for gate in json.loads(capfd.readouterr().out)["gates"]}
    assert gates["agreement_pct"] is False
