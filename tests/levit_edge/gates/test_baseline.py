"""A report against an earlier one: first what must be the same, then the figures, then the results as JUnit."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from levit_edge.gates.baseline import compare_to_baseline
from levit_edge.gates.check_bundle import check
from levit_edge.gates.check_report import figures_of
from levit_edge.gates.gates_file import GatesFile, Regression
from levit_edge.gates.junit import to_junit
from levit_edge.gates.resolve_limits import Limits
from levit_edge.report.gate_result import GateResult
from levit_edge.report.policy import IDENTITIES
from levit_edge.report.schema import Delegation, Report
from tests.levit_edge.report import reports

OPERATORS = {"Conv int8 runtime": 6, "Softmax float runtime": 11}
DELEGATION = Delegation(delegates=1, int8_ops=98, float_ops=11, fallback_ops=0, operators=OPERATORS)
BASELINE = reports.target(accuracy=reports.answers(), delegation=DELEGATION)


def _report(target: Any = BASELINE, **changes: Any) -> Report:
    made = reports.report(onnx=target).model_copy(update={"evaluation": reports.evaluation()})
    parts = {name: getattr(made, name).model_copy(update=change) for name, change in changes.items()}
    return made.model_copy(update=parts)


def _compared(now: Report, before: Report | None = None, **regression: Any) -> dict[str, GateResult]:
    file = GatesFile(regression=Regression(**regression))
    return {gate.name: gate for gate in compare_to_baseline(now, before or _report(), file)["onnx"]}


def test_a_report_does_not_regress_from_itself() -> None:
    results = _compared(_report())
    assert list(results)[: len(IDENTITIES)] == [f"baseline_{name}" for name in IDENTITIES]
    assert {gate.outcome for gate in results.values()} == {"passed"}
    assert len(results) == len(IDENTITIES) + 9


def _delegation(**changes: Any) -> dict[str, Any]:
    return {"delegation": DELEGATION.model_copy(update=changes)}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("baseline_top1_drop_pp", {"accuracy": reports.answers(since=(30, 0)), "outcome": "failed"}),
        ("baseline_top1_drop_pp", {"accuracy": reports.answers(since=(9, 3)), "outcome": "undecided"}),
        ("baseline_sqnr_db", {"accuracy": BASELINE.accuracy.model_copy(update={"sqnr_db": 26.2})}),
        ("baseline_size_bytes", {"size_bytes": 9_000_000}),
        ("baseline_speedup", {"latency": reports.latency(speedup=1.3, speedup_low=1.2, speedup_high=1.39)}),
        ("baseline_delegates", _delegation(delegates=2)),
        ("baseline_float_ops", _delegation(float_ops=12)),
        ("baseline_fallback_ops", _delegation(fallback_ops=1)),
        (
            "baseline_operator_changes",
            _delegation(operators=OPERATORS | {"Conv int8 runtime": 5, "Add float runtime": 1}),
        ),
    ],
)
def test_each_regression_trips_its_own_gate(name: str, changes: dict[str, Any]) -> None:
    outcome = changes.pop("outcome", "failed") if "outcome" in changes else "failed"
    results = _compared(_report(BASELINE.model_copy(update={k: v for k, v in changes.items() if k != "outcome"})))
    tripped = {other: gate.outcome for other, gate in results.items() if gate.outcome != "passed"}
    assert tripped.pop("baseline_agreement_drop_pp", outcome) == outcome  # lost answers are lost agreement, too
    assert tripped == {name: outcome}


def test_the_operators_that_changed_are_listed() -> None:
    now = BASELINE.model_copy(update=_delegation(operators={"Conv int8 runtime": 5, "Add float runtime": 1}))
    note = _compared(_report(now))["baseline_operator_changes"].note
    assert note == "Add float runtime 0 -> 1; Conv int8 runtime 6 -> 5; Softmax float runtime 11 -> 0"


def test_answers_are_compared_image_by_image() -> None:
    """As many right answers as before, and yet thirty of them are on other images: the interval is wider for it."""
    moved = reports.answers(lost=37, gained=33)
    now, same = _compared(_report(BASELINE.model_copy(update={"accuracy": moved}))), _compared(_report())
    drop, before = now["baseline_top1_drop_pp"], same["baseline_top1_drop_pp"]
    assert drop.value == before.value == 0
    assert drop.high is not None and before.high is not None and drop.high > 3 * before.high
    assert drop.outcome == "undecided" and drop.images is not None and "30 answers lost and 30 gained" in drop.note


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("model", {"model": {"sha256": "11" * 32}}),
        ("model", {"model": {"variant": "levit-192"}}),
        ("evaluation", {"evaluation": {"sha256": "11" * 32}}),
        ("calibration", {"calibration": {"sha256": "11" * 32}}),
        ("calibration", {"calibration": {"samples": 255}}),
        ("host", {"host": {"processor": "another"}}),
    ],
)
def test_another_identity_fails_with_its_name_unless_it_is_accepted(name: str, changes: dict[str, Any]) -> None:
    results = _compared(_report(**changes))
    assert [gate.name for gate in results.values() if gate.outcome == "failed"] == [f"baseline_{name}"]
    assert f"another {name}" in results[f"baseline_{name}"].note
    assert ("baseline_size_bytes" in results) is (name != "model")
    accepted = _compared(_report(**changes), accept_difference=(name,))
    assert accepted[f"baseline_{name}"].outcome == "not applicable"
    assert {gate.outcome for gate in accepted.values()} <= {"passed", "not applicable"}
    assert "baseline_size_bytes" in accepted
    assert (accepted["baseline_speedup"].outcome == "not applicable") is (name == "host")
    assert (accepted["baseline_top1_drop_pp"].outcome == "not applicable") is (name == "evaluation")


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("recipe", {"recipe": "fp32"}),
        ("versions", {"tool_versions": {"torch": "2.12.0", "onnx": "1.23.2"}}),
        ("devices", {"devices": reports.counted(reports.instructions()).devices}),
    ],
)
def test_an_identity_of_one_target(name: str, target: dict[str, Any]) -> None:
    results = _compared(_report(BASELINE.model_copy(update=target)))
    assert [gate.name for gate in results.values() if gate.outcome == "failed"] == [f"baseline_{name}"]


def test_an_identity_that_the_baseline_does_not_know_is_a_difference() -> None:
    before = _report().model_copy(update={"evaluation": None})
    result = _compared(_report(), before)["baseline_evaluation"]
    assert (result.outcome, result.limit) == ("failed", "unknown")
    both = before.model_copy(update={"host": before.host})
    assert _compared(both, before)["baseline_evaluation"].outcome == "failed"


@pytest.mark.parametrize(
    ("accuracy", "note"),
    [
        (None, "no accuracy from onnxruntime 1.31.1, executed"),
        (reports.answers().model_copy(update={"executed": False}), "no accuracy from onnxruntime 1.31.1, executed"),
        (reports.answers().model_copy(update={"outcomes": None}), "does not keep its answers; make it again"),
        (
            reports.answers().model_copy(update={"n_labelled": 990}),
            "990 images have a known class, in the baseline 1000",
        ),
    ],
)
def test_accuracy_that_cannot_be_compared_is_undecided(accuracy: Any, note: str) -> None:
    results = _compared(_report(BASELINE.model_copy(update={"accuracy": accuracy})))
    for name in ("baseline_top1_drop_pp", "baseline_agreement_drop_pp"):
        assert results[name].outcome == "undecided" and note in results[name].note


@pytest.mark.parametrize("latency", [None, reports.latency(threads=2)])
def test_times_of_another_setting_are_undecided(latency: Any) -> None:
    assert (
        _compared(_report(BASELINE.model_copy(update={"latency": latency})))["baseline_speedup"].outcome == "undecided"
    )


@pytest.mark.parametrize(
    ("now", "outcome", "note"),
    [
        (reports.instructions(built=62_400_000), "passed", reports.ON_DEVICE),
        (reports.instructions(built=62_500_000), "failed", reports.ON_DEVICE),
        (None, "undecided", f"this report has no instructions from {reports.DEVICE}"),
        (reports.instructions(device="qemu-arm64:max"), "undecided", reports.DEVICE),
    ],
)
def test_instructions_may_grow_by_two_percent(now: Any, outcome: str, note: str) -> None:
    counted, before = reports.counted(*([now] if now else [])), reports.counted(reports.instructions())
    results = _compared(_report(counted), _report(before))
    gate = results["baseline_device_instructions"]
    assert gate.outcome == outcome and note in gate.note
    assert (gate.limit, gate.device) == (pytest.approx(62_424_000), reports.DEVICE)
    accepted = _compared(_report(counted), _report(before), accept_difference=("devices",))
    outcome = "not applicable" if outcome == "undecided" else outcome
    assert accepted["baseline_device_instructions"].outcome == outcome


def test_a_device_that_ran_must_count_even_where_other_devices_are_accepted() -> None:
    before = reports.everything_on_a_device()
    now = reports.target(devices={reports.DEVICE: reports.on_device()})
    results = _compared(_report(now), _report(before), accept_difference=("devices",))
    assert results["baseline_device_instructions"].outcome == "undecided"


def test_an_sqnr_that_disappeared_is_undecided() -> None:
    now = BASELINE.model_copy(update={"accuracy": reports.answers().model_copy(update={"sqnr_db": None})})
    assert _compared(_report(now))["baseline_sqnr_db"].outcome == "undecided"


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"base": "w8a16", "weight_range": "minmax"}, "another recipe"),
        ({"base": "int8", "weight_range": "mse"}, "another recipe"),
        ({}, "not recorded"),
    ],
)
def test_a_recipe_with_other_settings_is_another_recipe(settings: dict[str, str], found: str) -> None:
    results = _compared(_report(BASELINE.model_copy(update={"recipe_settings": settings})))
    assert results["baseline_recipe"].outcome == "failed" and results["baseline_recipe"].note.startswith(found)
    assert "baseline_top1_drop_pp" not in results


@pytest.mark.parametrize(
    ("now", "before", "outcomes"),
    [
        (None, None, {"baseline_float_ops": "passed"}),
        (0, None, {"baseline_float_ops": "passed"}),
        (None, 0, {"baseline_float_ops": "passed", "baseline_fallback_ops": "undecided"}),
        (1, 0, {"baseline_float_ops": "passed", "baseline_fallback_ops": "failed"}),
    ],
)
def test_a_runtime_without_delegates_has_no_fallback_to_compare(now: Any, before: Any, outcomes: Any) -> None:
    made = [
        _report(reports.target(delegation=Delegation(delegates=None, int8_ops=98, float_ops=11, fallback_ops=count)))
        for count in (now, before)
    ]
    results = _compared(*made)
    assert {n: g.outcome for n, g in results.items() if n.endswith(("_ops", "delegates"))} == outcomes


def test_a_report_that_does_not_say_what_runs_where_is_undecided() -> None:
    results = _compared(_report(BASELINE.model_copy(update={"delegation": None})))
    assert results["baseline_delegates"].outcome == "undecided"


def test_a_target_that_one_side_lacks() -> None:
    found = compare_to_baseline(reports.report(coreml=BASELINE), reports.report(onnx=BASELINE), GatesFile())
    outcomes = {name: [(gate.name, gate.outcome) for gate in gates] for name, gates in found.items()}
    assert outcomes["onnx"] == [("baseline_target_present", "failed")]
    assert outcomes["coreml"] == [("baseline_target_present", "undecided")]


def test_junit_counts_and_explains() -> None:
    limits = {"max_top1_drop_pp": 1.5, "min_agreement_pct": 99, "max_size_ratio": 0.29, "min_speedup": 1}
    target = reports.target(latency=None, fp32_size_bytes=17_600_000, accuracy=reports.accuracy(executed=False))
    gates = check(figures_of(target, _report(target)), Limits(limits))
    text = to_junit({"onnx": gates, "coreml": ()})
    assert text.startswith("<?xml version='1.0' encoding='utf-8'?>\n")
    suite, empty = ET.fromstring(text)
    assert suite.attrib == {"name": "onnx", "tests": "4", "failures": "1", "errors": "1", "skipped": "1"}
    assert (empty.attrib["tests"], empty.attrib["errors"]) == ("1", "1")  # nothing was shown, and that is no success
    (nothing,) = ET.fromstring(to_junit({}))
    assert nothing.attrib["errors"] == "1"
    assert _texts(suite, "failure") == {"size_ratio": "size_ratio is 0.5, limit 0.29"}
    assert _texts(suite, "error")["agreement_pct"].startswith("agreement_pct is 99 (98.31 to 99.456), limit 99")
    assert _texts(suite, "skipped") == {
        "speedup": "speedup is not run, limit 1 (the runtime of this target does not run on this host)"
    }
    assert to_junit({"onnx": gates, "coreml": ()}) == text
    tolerant = ET.fromstring(to_junit({"onnx": gates}, "warn"))[0]
    assert (tolerant.attrib["errors"], tolerant.attrib["skipped"], tolerant.attrib["failures"]) == ("0", "2", "1")


def _texts(suite: ET.Element, kind: str) -> dict[str, str]:
    return {case.attrib["name"]: node.text or "" for case in suite for node in case.iter(kind)}


def test_junit_names_are_unique_on_several_devices() -> None:
    """GitLab drops a case whose name is there already."""
    gates = tuple(reports.PASSED.model_copy(update={"device": device}) for device in ("board", "phone", None))
    names = [case.attrib["name"] for case in ET.fromstring(to_junit({"onnx": gates})).iter("testcase")]
    assert names == ["size_ratio board", "size_ratio phone", "size_ratio"]


def test_junit_escapes_what_users_wrote() -> None:
    gate = GateResult(name="a", outcome="failed", value=1, limit=0, note="<&\x01>")
    [failure] = ET.fromstring(to_junit({'"<x>': (gate,)})).iter("failure")
    assert failure.text == "a is 1, limit 0 (<&?>)"
