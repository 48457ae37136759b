"""Regressions against an earlier report, and gate results as JUnit."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from levit_edge.errors import InputError
from levit_edge.gates.baseline import Tolerances, compare_to_baseline
from levit_edge.gates.check_bundle import check
from levit_edge.gates.check_report import figures_of
from levit_edge.gates.junit import to_junit
from levit_edge.report.schema import Delegation, GateResult
from tests.levit_edge.report import reports


def _compared(now: Any, **tolerances: float) -> dict[str, GateResult]:
    found = compare_to_baseline(reports.report(onnx=now), reports.report(onnx=BASELINE), Tolerances(**tolerances))
    return {gate.name: gate for gate in found["onnx"]}


BASELINE = reports.target(delegation=Delegation(delegates=1, int8_ops=98, float_ops=11, fallback_ops=0))


def test_a_report_does_not_regress_from_itself() -> None:
    results = _compared(BASELINE)
    assert len(results) == 8
    assert all(gate.passed for gate in results.values())


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("baseline_top1_drop_pp", {"accuracy": reports.accuracy(top1_drop_pp=0.61)}),
        ("baseline_agreement_pct", {"accuracy": reports.accuracy(agreement_pct=98.4)}),
        ("baseline_sqnr_db", {"accuracy": reports.accuracy(sqnr_db=26.2)}),
        ("baseline_size_bytes", {"size_bytes": 9_000_000}),
        ("baseline_speedup", {"latency": reports.latency(speedup=1.39)}),
        ("baseline_delegates", {"delegation": Delegation(delegates=2, int8_ops=98, float_ops=11, fallback_ops=0)}),
        ("baseline_float_ops", {"delegation": Delegation(delegates=1, int8_ops=98, float_ops=12, fallback_ops=0)}),
        ("baseline_fallback_ops", {"delegation": Delegation(delegates=1, int8_ops=98, float_ops=11, fallback_ops=1)}),
    ],
)
def test_each_regression_fails_its_own_check(name: str, changes: dict[str, Any]) -> None:
    results = _compared(BASELINE.model_copy(update=changes))
    assert [other for other, gate in results.items() if not gate.passed] == [name]


def test_tolerances_can_be_set() -> None:
    slower = BASELINE.model_copy(update={"latency": reports.latency(speedup=1.9)})
    assert _compared(slower)["baseline_speedup"].passed is True
    assert _compared(slower, speedup_pct=1)["baseline_speedup"].passed is False


def test_percentages_are_never_finer_than_two_images() -> None:
    few = BASELINE.model_copy(update={"accuracy": reports.few_images(100, 2, 0)})
    assert all(gate.passed for gate in _compared(few).values())
    worse = BASELINE.model_copy(update={"accuracy": reports.few_images(100, 4, 0)})
    results = _compared(worse)
    assert (results["baseline_top1_drop_pp"].passed, results["baseline_agreement_pct"].passed) == (False, False)


@pytest.mark.parametrize("accuracy", [None, reports.accuracy(executed=False), reports.accuracy(runtime="other 1.0")])
def test_figures_of_another_runtime_are_not_compared(accuracy: Any) -> None:
    results = _compared(BASELINE.model_copy(update={"accuracy": accuracy}))
    assert results["baseline_agreement_pct"].passed is None
    assert "onnxruntime 1.31.1, executed" in results["baseline_agreement_pct"].note
    assert "baseline_top1_drop_pp" not in results


@pytest.mark.parametrize("latency", [None, reports.latency(threads=2)])
def test_times_of_another_setting_are_not_compared(latency: Any) -> None:
    assert _compared(BASELINE.model_copy(update={"latency": latency}))["baseline_speedup"].passed is None


@pytest.mark.parametrize(
    ("now", "before", "passed", "note"),
    [
        (reports.instructions(built=62_400_000), reports.instructions(), True, reports.ON_DEVICE),
        (reports.instructions(built=62_500_000), reports.instructions(), False, reports.ON_DEVICE),
        (None, reports.instructions(), None, f"this report has no instructions from {reports.DEVICE}"),
        (reports.instructions(device="qemu-arm64:max"), reports.instructions(), None, reports.DEVICE),
        (reports.instructions(), None, None, "the baseline has no instructions"),
    ],
)
def test_instructions_may_grow_by_two_percent(now: Any, before: Any, passed: bool | None, note: str) -> None:
    counted, counted_before = (reports.counted(*([one] if one else [])) for one in (now, before))
    found = compare_to_baseline(reports.report(onnx=counted), reports.report(onnx=counted_before))
    (gate,) = [gate for gate in found["onnx"] if gate.name == "baseline_arm64_instructions"]
    assert gate.passed is passed and note in gate.note
    if before is not None:
        assert gate.limit == pytest.approx(62_424_000)


def test_every_device_is_compared_with_itself() -> None:
    before = reports.counted(reports.instructions(), reports.instructions("board", built=9_000_000))
    now = reports.counted(reports.instructions("board", built=10_000_000))
    found = compare_to_baseline(reports.report(onnx=now), reports.report(onnx=before))
    gates = [(gate.passed, gate.value) for gate in found["onnx"] if gate.name == "baseline_arm64_instructions"]
    assert gates == [(None, None), (False, 10_000_000)]


@pytest.mark.parametrize(
    ("now", "before", "outcomes"),
    [
        (None, None, {"baseline_float_ops": True}),
        (0, None, {"baseline_float_ops": True}),
        (None, 0, {"baseline_float_ops": True, "baseline_fallback_ops": None}),  # a baseline of an earlier version
        (1, 0, {"baseline_float_ops": True, "baseline_fallback_ops": False}),
    ],
)
def test_a_runtime_without_delegates_has_no_fallback_to_compare(now: Any, before: Any, outcomes: Any) -> None:
    entries = [
        reports.target(delegation=Delegation(delegates=None, int8_ops=98, float_ops=11, fallback_ops=count))
        for count in (now, before)
    ]
    (gates,) = compare_to_baseline(*(reports.report(onnx=entry) for entry in entries)).values()
    assert {gate.name: gate.passed for gate in gates if gate.name.endswith(("_ops", "delegates"))} == outcomes


def test_a_report_that_does_not_say_what_runs_where_is_skipped() -> None:
    results = _compared(BASELINE.model_copy(update={"delegation": None}))
    assert results["baseline_delegates"].passed is None
    assert results["baseline_delegates"].note == "this report does not say what runs where"


def test_a_missing_target_fails() -> None:
    found = compare_to_baseline(reports.report(coreml=BASELINE), reports.report(onnx=BASELINE))
    [gate] = found["onnx"]
    assert (gate.name, gate.passed) == ("baseline_target_present", False)
    assert list(found) == ["onnx"]


def test_another_recipe_is_refused() -> None:
    with pytest.raises(InputError, match=r"onnx: recipe 'fp32'.*'int8'"):
        _compared(reports.target(recipe="fp32"))


def test_junit_counts_and_explains() -> None:
    limits = {"max_top1_drop_pp": 0.5, "min_agreement_pct": 98, "max_size_ratio": 0.29, "min_speedup": 1}
    gates = check(figures_of(reports.target(latency=None, size_ratio=0.5)), limits)
    text = to_junit({"onnx": gates, "coreml": ()})
    assert text.startswith("<?xml version='1.0' encoding='utf-8'?>\n")
    suite, empty = ET.fromstring(text)
    assert suite.attrib == {"name": "onnx", "tests": "4", "failures": "1", "errors": "0", "skipped": "1"}
    assert empty.attrib["tests"] == "0"
    failures = {case.attrib["name"]: node.attrib["message"] for case in suite for node in case.iter("failure")}
    assert failures == {"size_ratio": "size_ratio is 0.5, limit 0.29"}
    skips = {case.attrib["name"]: node.attrib["message"] for case in suite for node in case.iter("skipped")}
    assert skips == {"speedup": "no runtime ran here"}
    assert to_junit({"onnx": gates, "coreml": ()}) == text


def test_junit_escapes_what_users_wrote() -> None:
    gate = GateResult(name="a", value=1, limit=0, passed=False, note="<&>")
    [failure] = ET.fromstring(to_junit({'"<x>': (gate,)})).iter("failure")
    assert failure.text == "<&>"
