"""A gate is one record and one row: everything else finds it there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from levit_edge.errors import InputError
from levit_edge.gates.check_report import check_report
from levit_edge.gates.gate import BASES, Figures, Gate, Limit, Percent, at_most
from levit_edge.gates.gates_file import GatesFile, load_gates_file
from levit_edge.gates.initial_file import initial_file
from levit_edge.gates.junit import to_junit
from levit_edge.gates.registry import GATES
from levit_edge.gates.resolve_limits import Limits, default_limits, limits_for
from levit_edge.report.gate_result import GateResult
from levit_edge.report.markdown import render_markdown
from tests.levit_edge.report import reports


def _top5_loss(figures: Figures, limit: float) -> Iterator[GateResult]:
    assert figures.classes == 10 and figures.accuracy is not None and figures.accuracy.top5_pct is not None
    yield at_most("top5_loss_pct", 100 - figures.accuracy.top5_pct, limit)


TOY = Gate(
    name="top5_loss_pct",
    limit="max_top5_loss_pct",
    bounds=Percent,
    help="what is missing to a top-5 of 100 %",
    defaults=dict.fromkeys(BASES, 3.0),
    figure="accuracy",
    check=_top5_loss,
)


def test_the_gates_in_the_order_of_the_contract() -> None:
    assert [(name, gate.name) for name, gate in GATES.items()] == [(name, name) for name in GATES]
    assert list(GATES)[:4] == ["top1_drop_pp", "agreement_pct", "sqnr_db", "program_departures"]
    assert len({gate.limit for gate in GATES.values()}) == len(GATES)


def test_one_row_is_a_gate_in_the_results_the_limits_and_the_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(GATES, TOY.name, TOY)
    path = tmp_path / "gates.toml"
    path.write_text("schema_version = 1\n[targets.onnx.limits]\nmax_top5_loss_pct = 1.5\n")
    file = load_gates_file(path, ("coreml", "onnx"))
    assert default_limits("fp16", {})["max_top5_loss_pct"] == 3.0
    limits = {name: limits_for(name, "int8", {}, file) for name in ("coreml", "onnx")}
    report = reports.report(coreml=reports.target(bundle="coreml"), onnx=reports.target())

    results = check_report(report, limits, file)
    outcomes = {name: {gate.name: (gate.limit, gate.passed) for gate in gates} for name, gates in results.items()}
    assert outcomes["coreml"]["top5_loss_pct"] == (3.0, True)
    assert outcomes["onnx"]["top5_loss_pct"] == (1.5, False)
    (failed,) = [case for case in ET.fromstring(to_junit(results)).iter("testcase") if case.find("failure") is not None]
    assert failed.attrib == {"classname": "levit_edge.gates.onnx", "name": "top5_loss_pct"}
    gated = reports.report(onnx=reports.target(gates=results["onnx"]))
    assert "| top5_loss_pct | 2 | 1.5 | failed |" in render_markdown(gated)
    assert "max_top5_loss_pct = 1.5  # what is missing to a top-5 of 100 %; now 2" in initial_file(report, limits, file)

    path.write_text("schema_version = 1\n[limits]\nmax_top5_loss_pct = 101\n")
    with pytest.raises(InputError, match=r"max_top5_loss_pct is 101.*less than or equal to 100"):
        load_gates_file(path, ())


def test_a_gate_needs_a_default_for_every_recipe() -> None:
    with pytest.raises(ValueError, match="top5_loss_pct: the defaults need one limit for each of int8, w8a16"):
        Gate(
            name="top5_loss_pct",
            limit="max_top5_loss_pct",
            bounds=Percent,
            help="",
            defaults={"int8": 3.0},
            figure="accuracy",
            check=_top5_loss,
        )


def test_a_report_without_figures_leaves_its_gates_undecided() -> None:
    report = reports.report(onnx=reports.target(accuracy=None, latency=None))
    limits = {"onnx": limits_for("onnx", "int8", {})}
    (results,) = check_report(report, limits, GatesFile()).values()
    outcomes = {gate.name: gate.outcome for gate in results}
    assert outcomes["top1_drop_pp"] == outcomes["agreement_pct"] == outcomes["speedup"] == "undecided"


def test_an_initial_file_holds_every_limit_and_changes_no_verdict(tmp_path: Path) -> None:
    report = reports.report(coreml=reports.UNMEASURED, onnx=reports.target())
    limits = {name: limits_for(name, "int8", {"int8": {"max_size_ratio": 0.29}}) for name in report.targets}
    path = tmp_path / "gates.toml"
    path.write_text(initial_file(report, limits, GatesFile()), encoding="utf-8")
    file = load_gates_file(path, report.targets)
    again = {name: limits_for(name, "int8", {}, file) for name in report.targets}
    assert check_report(report, again, file) == check_report(report, limits, GatesFile())
    assert all(gate.limit in path.read_text(encoding="utf-8") for gate in GATES.values())
    assert file.regression_of("onnx") == GatesFile().regression
    pinned = Limits({**limits["onnx"].bundle, "versions": {"torch": "2.13.0"}})
    path.write_text(initial_file(report, limits | {"onnx": pinned}, GatesFile()), encoding="utf-8")
    file = load_gates_file(path, report.targets)
    assert limits_for("onnx", "int8", {}, file).bundle["versions"] == {"torch": "2.13.0"}


ABSENT = "qemu-arm64:neoverse-n1"
DEVICES = f"""schema_version = 1
undecided = "warn"
[limits]
min_speedup = "off"
[devices."{reports.DEVICE}"]
max_device_instructions_m = 62
[devices."{ABSENT}"]
max_device_instructions_m = 62
[regression]
accept_difference = ["host"]
sqnr_db = 0.5
[targets.onnx.regression]
accept_difference = ["versions"]
"""


def test_a_limit_of_a_device_that_ran_nothing_is_undecided_and_init_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "gates.toml"
    path.write_text(DEVICES)
    report = reports.report(coreml=reports.target(bundle="coreml"), onnx=reports.everything_on_a_device())
    for _ in range(2):
        file = load_gates_file(path, report.targets)
        limits = {name: limits_for(name, "int8", {}, file) for name in report.targets}
        results = check_report(report, limits, file)
        found = [
            (name, gate.device, gate.outcome)
            for name, gates in results.items()
            for gate in gates
            if gate.name == "device_instructions_m"
        ]
        # Not every target runs on every device, so the one that ran onnx asks nothing of coreml.
        assert found[0] == ("coreml", ABSENT, "undecided")
        assert found[-2:] == [("onnx", reports.DEVICE, "passed"), ("onnx", ABSENT, "undecided")]
        assert "speedup" not in {gate.name for gates in results.values() for gate in gates}
        assert file.undecided == "warn"
        assert file.regression_of("onnx").accept_difference == ("host", "versions")
        assert (file.regression_of("coreml").accept_difference, file.regression_of("onnx").sqnr_db) == (("host",), 0.5)
        path.write_text(initial_file(report, limits, file), encoding="utf-8")  # and once more from what it wrote


@pytest.mark.parametrize(
    ("limits", "asked", "expected"),
    [
        ({}, (None, None), {}),
        ({}, (30.0, 0.5), {"min_sqnr_db": 30.0, "max_top1_drop_pp": 0.5}),
        (
            {"min_sqnr_db": "off", "max_top1_drop_pp": "off"},
            (30.0, 0.5),
            {"min_sqnr_db": 30.0, "max_top1_drop_pp": 0.5},
        ),
        ({"min_sqnr_db": 35.0, "max_top1_drop_pp": 0.2}, (30.0, 0.5), {"min_sqnr_db": 35.0, "max_top1_drop_pp": 0.2}),
        ({"min_sqnr_db": 25.0, "max_top1_drop_pp": 2.0}, (30.0, None), {"min_sqnr_db": 30.0, "max_top1_drop_pp": 2.0}),
    ],
)
def test_a_build_is_held_to_what_was_asked_for_where_that_is_stricter(
    limits: dict[str, Limit], asked: tuple[float | None, float | None], expected: dict[str, Limit]
) -> None:
    assert Limits({"max_size_ratio": 0.3, **limits}).held_to(*asked).bundle == {"max_size_ratio": 0.3, **expected}
