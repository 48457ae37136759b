"""A gate is one record and one row: everything else finds it there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from levit_edge.errors import InputError
from levit_edge.gates.check_report import check_report
from levit_edge.gates.gate import BASES, Figures, Gate, Percent, at_most
from levit_edge.gates.junit import to_junit
from levit_edge.gates.registry import GATES
from levit_edge.gates.resolve_limits import default_limits, limits_for, load_limits
from levit_edge.report.markdown import render_markdown
from levit_edge.report.schema import GateResult
from tests.levit_edge.report import reports


def _top5_loss(figures: Figures, limit: float, classes: int | None) -> Iterator[GateResult]:
    assert classes == 10 and figures.accuracy is not None and figures.accuracy.top5_pct is not None
    yield at_most("top5_loss_pct", 100 - figures.accuracy.top5_pct, limit)


TOY = Gate("top5_loss_pct", "max_top5_loss_pct", Percent, dict.fromkeys(BASES, 3.0), "accuracy", _top5_loss)


def test_the_gates_in_the_order_of_the_contract() -> None:
    assert [(name, gate.name, gate.limit) for name, gate in GATES.items()] == [
        ("top1_drop_pp", "top1_drop_pp", "max_top1_drop_pp"),
        ("agreement_pct", "agreement_pct", "min_agreement_pct"),
        ("device_agreement_pct", "device_agreement_pct", "min_device_agreement_pct"),
        ("size_ratio", "size_ratio", "max_size_ratio"),
        ("speedup", "speedup", "min_speedup"),
    ]


def test_one_row_is_a_gate_in_the_results_the_limits_and_the_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(GATES, TOY.name, TOY)
    thresholds = tmp_path / "limits.toml"
    thresholds.write_text("[onnx]\nmax_top5_loss_pct = 1.5\n")
    changes = load_limits(thresholds, ("coreml", "onnx"))
    assert default_limits("fp16", {})["max_top5_loss_pct"] == 3.0
    limits = {name: limits_for("int8", {}, change) for name, change in changes.items()}
    report = reports.report(coreml=reports.target(bundle="coreml"), onnx=reports.target())

    results = check_report(report, limits)
    outcomes = {name: {gate.name: (gate.limit, gate.passed) for gate in gates} for name, gates in results.items()}
    assert outcomes["coreml"]["top5_loss_pct"] == (3.0, True)
    assert outcomes["onnx"]["top5_loss_pct"] == (1.5, False)
    (failed,) = [case for case in ET.fromstring(to_junit(results)).iter("testcase") if case.find("failure") is not None]
    assert failed.attrib == {"classname": "levit_edge.gates.onnx", "name": "top5_loss_pct"}
    gated = reports.report(onnx=reports.target(gates=results["onnx"]))
    assert "| top5_loss_pct | 2.000 | 1.500 | failed |" in render_markdown(gated)

    thresholds.write_text("max_top5_loss_pct = 101\n")
    with pytest.raises(InputError, match=r"max_top5_loss_pct is 101.*less than or equal to 100"):
        load_limits(thresholds, ())


def test_a_gate_needs_a_default_for_every_recipe() -> None:
    with pytest.raises(ValueError, match="top5_loss_pct: the defaults need one limit for each of int8, w8a16"):
        Gate("top5_loss_pct", "max_top5_loss_pct", Percent, {"int8": 3.0}, "accuracy", _top5_loss)


def test_a_report_without_figures_is_refused() -> None:
    with pytest.raises(InputError, match="no accuracy and no latency"):
        check_report(reports.report(onnx=reports.target(accuracy=None, latency=None)), {"onnx": {}})
