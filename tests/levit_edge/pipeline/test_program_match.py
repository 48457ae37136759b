"""Builds and evaluations say how each model file compares with its program; a build that finds a difference stops."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from torch.export import ExportedProgram

from levit_edge.bundle.manifest import PROGRAM_NAME, open_bundle
from levit_edge.cli import run
from levit_edge.metrics.program_match import ProgramMatch
from levit_edge.pipeline.bundles import read_image
from levit_edge.pipeline.evaluate import evaluate
from levit_edge.pipeline.options import EvaluateOptions
from levit_edge.pipeline.verify import verify_bundle
from targets.registry import TARGETS
from tests.levit_edge.pipeline.conftest import Built, change_backend
from tests.programs import ATTENTIONS, CONVS, LINEARS
from tests.targets.program.faults import plant_onnx

LAYERS = CONVS + LINEARS + 2 * ATTENTIONS


def _of_bundle(path: Path, built: Built) -> ProgramMatch | None:
    bundle = open_bundle(path)
    pixels = read_image(bundle, built.images / "cat" / "0.png")
    return verify_bundle(bundle, TARGETS[bundle.manifest.target], pixels)


@pytest.mark.parametrize("name", TARGETS)
def test_the_report_says_what_was_compared_and_a_bundle_can_be_compared_again(name: str, built: Built) -> None:
    found = built.report.targets[name].program_match
    assert found is not None and found.departures == () and found.layers == LAYERS and found.constants > 3 * LAYERS
    assert _of_bundle(built.out / name, built) == found


def test_an_evaluation_compares_the_bundle_where_it_has_its_program(built: Built, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(built.out / "onnx", tmp_path / "onnx"))
    options = EvaluateOptions(bundle, data=built.images, limit=2)
    found = evaluate(options).program_match
    assert found == built.report.targets["onnx"].program_match
    (bundle / PROGRAM_NAME).unlink()
    assert evaluate(options).program_match is None


def test_a_fault_that_came_into_a_bundle_later_is_named(built: Built, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(built.out / "onnx", tmp_path / "onnx"))
    plant_onnx(bundle / "model.onnx", 4, "one channel")
    found = _of_bundle(bundle, built)
    assert found is not None and found.departures[0].startswith("blocks.0.q: int8 tensor [32, 32] in the file differs")


@pytest.mark.parametrize("file", [pytest.param("model.onnx", marks=pytest.mark.slow), "model.fp32.onnx"])
def test_a_fault_in_either_file_stops_the_build(
    file: str, built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    lower = TARGETS["onnx"].backend.lower

    def faulty(program: ExportedProgram, path: Path, half: bool) -> None:
        lower(program, path, half)
        if path.name == file:
            _change_one_weight(path)

    change_backend(monkeypatch, "onnx", lower=faulty)
    words = ["--model", str(built.model), "--eval", str(built.images), "--recipe", "fp32", "--runs", "3"]
    assert run(["build", "--target", "onnx", *words, "--out", str(tmp_path / "dist")]) == 1
    (error,) = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert error.startswith(
        f"levit-edge: error: {file} is not the program it was made from: "
        "stem.0: float tensor [4, 3, 3, 3] in the file differs from the program's"
    )
    assert error.endswith("; nothing was written") and not list((tmp_path / "dist").rglob("*"))


def _change_one_weight(path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    (weight,) = [tensor for tensor in model.graph.initializer if tensor.name == "stem.0.weight"]
    values = numpy_helper.to_array(weight).copy()
    values[0, 0, 0, 0] *= 1.5
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, path)
