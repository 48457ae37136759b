"""A target that one registry row adds is built, gated, inspected, compared and listed like any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from levit_edge import doctor
from levit_edge.cli import run
from levit_edge.pipeline.bench import bench
from levit_edge.pipeline.build import build
from levit_edge.pipeline.evaluate import evaluate
from levit_edge.pipeline.gate import gate
from levit_edge.pipeline.inspect import inspect
from levit_edge.pipeline.options import (
    BenchOptions,
    BuildOptions,
    EvaluateOptions,
    GateOptions,
    InspectOptions,
    PredictOptions,
)
from levit_edge.pipeline.predict import predict
from levit_edge.report.answers import Inspection
from levit_edge.report.divergence import Divergence
from targets.registry import TARGETS
from tests.levit_edge.pipeline.conftest import Built
from tests.programs import ATTENTIONS, CONVS, LINEARS
from tests.targets.toy import TOY

NAME = TOY.name


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, NAME, TOY)


@pytest.fixture
def out(built: Built, registered: None, tmp_path: Path) -> Path:
    options = built.options(tmp_path / "dist", targets=(NAME,), recipe="int8", calibration=built.images)
    report = build(options)
    entry = report.targets[NAME]
    assert entry.accuracy is not None and entry.accuracy.sqnr_db is not None and entry.accuracy.sqnr_db > 20
    assert entry.accuracy.runtime == "toy-torch" and entry.latency is not None
    assert entry.delegation is not None and entry.delegation.int8_ops > 0 and entry.delegation.fallback_ops is None
    assert {gate.name: gate.limit for gate in entry.gates}["size_ratio"] == TOY.limits["int8"]["max_size_ratio"]
    return tmp_path / "dist"


def test_every_verb_takes_it(out: Path, built: Built, tmp_path: Path) -> None:
    bundle, photograph = out / NAME, built.images / "cat" / "0.png"
    inspection = inspect(InspectOptions(bundle))
    assert isinstance(inspection, Inspection) and inspection.model_file == TOY.model_file and inspection.operators
    divergence = inspect(InspectOptions(bundle, diverge=photograph))
    assert isinstance(divergence, Divergence)
    assert (divergence.first, len(divergence.layers)) == (None, CONVS + LINEARS + 2 * ATTENTIONS)
    assert evaluate(EvaluateOptions(bundle, data=built.images, limit=4)).accuracy.n == 4
    (row,) = bench(BenchOptions((bundle,), runs=2)).rows
    assert row.latency is not None and row.latency.runs == 2
    assert predict(PredictOptions(bundle, (photograph,))).images[0].runtime == "toy-torch"
    limits = tmp_path / "limits.toml"
    limits.write_text(f"schema_version = 1\n[targets.{NAME}.limits]\nmax_size_ratio = 0.001\n")
    check = gate(GateOptions(out / "report.json", gates=limits))
    assert [g.name for g in check.targets[NAME] if g.passed is False and g.name == "size_ratio"] == ["size_ratio"]


def test_the_doctor_lists_it(registered: None) -> None:
    (row,) = [row for row in doctor.examine("0.1.0", ()).rows if row.name == NAME]
    assert (row.kind, row.lowers, row.executes) == ("target", "yes", "yes")


def test_the_command_line_takes_its_name(
    registered: None, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []

    def plan(options: BuildOptions) -> None:
        asked.append(options.targets)
        raise KeyboardInterrupt

    monkeypatch.setattr("levit_edge.pipeline.build.make_plan", plan)
    assert run(["build", "--target", NAME, "--out", str(tmp_path)]) == 130
    assert run(["build", "--out", str(tmp_path)]) == 130
    assert asked == [(NAME,), tuple(TARGETS)]
    assert run(["build", "--target", "other", "--out", str(tmp_path)]) == 2
    assert f"valid: {', '.join(TARGETS)}" in capfd.readouterr().err
