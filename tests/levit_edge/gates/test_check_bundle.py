"""Every gate: what passes, what fails, what the data cannot decide, and what does not apply, all without a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from levit_edge.gates.check_bundle import check
from levit_edge.gates.check_report import figures_of
from levit_edge.gates.gate import Figures
from levit_edge.gates.gates_file import Table
from levit_edge.gates.resolve_limits import Limits, default_limits
from levit_edge.metrics.program_match import ProgramMatch
from levit_edge.report.gate_result import GateResult
from tests.levit_edge.report import reports

LIMITS = default_limits("int8", {"int8": {"max_size_ratio": 0.29}})
NAMES = ["top1_drop_pp", "agreement_pct", "program_departures", "size_ratio", "speedup"]


def _results(limits: Table = LIMITS, model: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, GateResult]:
    report = reports.report(onnx=reports.target(**changes))
    report = report.model_copy(update={"model": report.model.model_copy(update=model or {})})
    return {gate.name: gate for gate in check(figures_of(report.targets["onnx"], report), Limits(limits))}


def test_a_good_bundle_passes_every_gate() -> None:
    results = _results()
    assert list(results) == NAMES
    assert {gate.outcome for gate in results.values()} == {"passed"}
    assert results["speedup"].note == "onnxruntime 1.31.1, threads=1, 60 rounds"
    assert results["program_departures"].note == "300 constants and 93 layers compared"


@pytest.mark.parametrize(
    ("name", "changes", "outcome"),
    [
        ("top1_drop_pp", {"accuracy": reports.few_images(1000, 11, 4)}, "passed"),  # 0.7 pp, at most 1.40
        ("top1_drop_pp", {"accuracy": reports.few_images(1000, 16, 4, 985)}, "undecided"),  # 1.2 pp, 0.51 to 2.08
        ("top1_drop_pp", {"accuracy": reports.few_images(1000, 40, 6, 985)}, "failed"),  # 3.4 pp, at least 2.35
        ("top1_drop_pp", {"accuracy": reports.few_images(16, 0, 0)}, "undecided"),
        ("top1_drop_pp", {"accuracy": reports.few_images(16, 9, 0, 16)}, "failed"),
        ("top1_drop_pp", {"accuracy": reports.few_images(50_000, 1250, 1000, 49_500)}, "passed"),
        ("top1_drop_pp", {"accuracy": reports.few_images(50_000, 2000, 1000, 49_500)}, "failed"),
        ("agreement_pct", {"accuracy": reports.few_images(1000, 0, 0, 980)}, "passed"),
        ("agreement_pct", {"accuracy": reports.few_images(1000, 0, 0, 975)}, "undecided"),
        ("agreement_pct", {"accuracy": reports.few_images(1000, 0, 0, 955)}, "failed"),
        ("agreement_pct", {"accuracy": reports.few_images(200, 0, 0, 200)}, "passed"),
        ("size_ratio", {"size_bytes": 2900, "fp32_size_bytes": 10_000}, "passed"),
        ("size_ratio", {"size_bytes": 2901, "fp32_size_bytes": 10_000}, "failed"),
        ("speedup", {"latency": reports.latency(speedup=1.1, speedup_low=1.0, speedup_high=1.2)}, "passed"),
        ("speedup", {"latency": reports.latency(speedup=1.05, speedup_low=0.98, speedup_high=1.1)}, "undecided"),
        ("speedup", {"latency": reports.latency(speedup=0.98, speedup_low=0.9, speedup_high=1.0)}, "undecided"),
        ("speedup", {"latency": reports.latency(speedup=0.98, speedup_low=0.9, speedup_high=0.99)}, "failed"),
        ("program_departures", {"program_match": ProgramMatch(constants=1, layers=1, departures=("a",))}, "failed"),
    ],
)
def test_each_gate_around_its_limit(name: str, changes: dict[str, Any], outcome: str) -> None:
    gate = _results(**changes)[name]
    assert gate.outcome == outcome, gate
    assert gate.limit == LIMITS[gate_limit(name)]  # never widened
    assert gate.passed is {"passed": True, "failed": False}.get(outcome)


def gate_limit(name: str) -> str:
    return {
        "top1_drop_pp": "max_top1_drop_pp",
        "agreement_pct": "min_agreement_pct",
        "size_ratio": "max_size_ratio",
        "speedup": "min_speedup",
        "program_departures": "max_program_departures",
    }[name]


def test_an_undecided_gate_says_how_many_images_would_decide() -> None:
    gate = _results(accuracy=reports.few_images(200, 2, 1))["top1_drop_pp"]
    assert gate.outcome == "undecided" and gate.low is not None and gate.high is not None
    assert gate.low < 0.5 < 1.5 < gate.high
    assert gate.images is not None and 200 < gate.images < 10_000
    assert f"200 images cannot decide at 95 % confidence, about {gate.images} would" in gate.note


def test_fewer_images_never_mean_more_tolerance() -> None:
    """Whatever the number of images, a bundle that truly loses twice the limit does not pass on its own rates."""
    for n in (20, 50, 100, 200, 500, 1000, 5000):
        gate = _results(accuracy=reports.few_images(n, round(0.03 * n), 0))["top1_drop_pp"]
        assert gate.outcome != "passed", n


def test_what_was_not_measured_is_undecided() -> None:
    results = _results(accuracy=None, latency=None, program_match=None)
    for name in ("top1_drop_pp", "agreement_pct", "speedup", "program_departures"):
        assert (results[name].value, results[name].passed, results[name].outcome) == (None, None, "undecided")
        assert results[name].note
    assert results["size_ratio"].outcome == "passed"


def test_without_labels_the_drop_is_undecided() -> None:
    unlabelled = reports.accuracy(
        n_labelled=0, top1_fp32_pct=None, top1_pct=None, top1_drop_pp=None, top5_pct=None, executed=False
    )
    results = _results(accuracy=unlabelled)
    assert (results["top1_drop_pp"].outcome, results["agreement_pct"].outcome) == ("undecided", "passed")
    assert "evaluate on labelled images" in results["top1_drop_pp"].note


def test_a_latency_gate_does_not_apply_where_no_runtime_runs() -> None:
    simulated = reports.accuracy(executed=False)
    assert _results(accuracy=simulated, latency=None)["speedup"].outcome == "not applicable"
    assert _results(latency=None)["speedup"].outcome == "undecided"  # a runtime ran, and nobody timed it


def test_random_weights_are_told_by_their_provenance() -> None:
    results = _results(model={"random_weights": True}, accuracy=reports.accuracy(agreement_pct=50.0))
    assert {results[name].outcome for name in ("top1_drop_pp", "agreement_pct")} == {"not applicable"}
    assert _results(accuracy=reports.few_images(400, 0, 0, 200))["agreement_pct"].outcome == "failed"


@pytest.mark.parametrize(
    ("top1", "n", "outcome"), [(10.0, 400, "undecided"), (15.0, 400, "passed"), (100.0, 1, "undecided")]
)
def test_a_drop_from_guessing_proves_nothing(top1: float, n: int, outcome: str) -> None:
    """Ten classes: a model with mixed-up labels loses nothing, because it has nothing to lose."""
    figures = {"n": n, "n_labelled": n, "top1_fp32_pct": top1, "top1_pct": top1, "top1_drop_pp": 0.0}
    accuracy = reports.accuracy(**figures, top1_lost=0, top1_gained=0, agreement_pct=100.0)
    gate = _results(accuracy=accuracy)["top1_drop_pp"]
    assert gate.outcome == outcome
    assert ("do not show that the float model does better" in gate.note) is (outcome == "undecided")


def test_a_gate_can_be_off() -> None:
    changed = {**LIMITS, "min_speedup": None, "max_top1_drop_pp": None}
    assert list(_results(changed)) == ["agreement_pct", "program_departures", "size_ratio"]


def test_a_figure_that_nobody_asked_for_gives_no_result() -> None:
    devices = {reports.DEVICE: reports.on_device()}
    asked = Figures(accuracy=reports.accuracy(), devices=devices, asked=frozenset({"accuracy", "devices"}))
    names = [gate.name for gate in check(asked, Limits(LIMITS))]
    assert names == ["top1_drop_pp", "agreement_pct", "device_agreement_pct"]
    unmeasured = Figures(asked=frozenset({"size", "latency"}))
    outcomes = [(gate.name, gate.outcome) for gate in check(unmeasured, Limits(LIMITS))]
    assert outcomes == [("size_ratio", "undecided"), ("speedup", "undecided")]


@pytest.mark.parametrize(
    ("agreement_pct", "n", "outcome"),
    [
        (100.0, 200, "passed"),
        (99.0, 200, "passed"),
        (98.5, 200, "undecided"),
        (90.0, 200, "failed"),
        (100.0, 40, "undecided"),
    ],
)
def test_a_device_must_answer_as_this_host_does(agreement_pct: float, n: int, outcome: str) -> None:
    gate = _results(devices={reports.DEVICE: reports.on_device(agreement_pct, n)})["device_agreement_pct"]
    assert (gate.outcome, gate.value, gate.device) == (outcome, agreement_pct, reports.DEVICE)
    assert gate.note.startswith(f"{reports.DEVICE} against onnxruntime-cpu of this host")


def test_a_device_has_its_own_limits() -> None:
    report = reports.report(onnx=reports.everything_on_a_device())
    figures = figures_of(report.targets["onnx"], report)
    limits = Limits({}, {reports.DEVICE: {"max_device_instructions_m": 61.0, "min_device_agreement_pct": 96.0}})
    assert [(g.name, g.outcome, g.device) for g in check(figures, limits)] == [
        ("device_agreement_pct", "passed", reports.DEVICE),
        ("device_instructions_m", "failed", reports.DEVICE),
    ]
    assert not check(figures, Limits({}, {"another": {"max_device_instructions_m": 1.0}}))
    assert "device_agreement_pct" not in _results()


def test_a_device_that_was_asked_and_did_not_answer_is_undecided() -> None:
    devices = reports.counted(reports.instructions()).devices
    assert _results(devices=devices)["device_agreement_pct"].outcome == "undecided"


@pytest.mark.parametrize(
    ("limit", "value", "outcome"),
    [
        ("min_sqnr_db", 27.0, "passed"),
        ("min_sqnr_db", 28.0, "failed"),
        ("max_size_bytes", 8_800_000, "passed"),
        ("max_size_bytes", 8_799_999, "failed"),
        ("max_float_ops", 11, "passed"),
        ("max_float_ops", 10, "failed"),
        ("min_int8_ops", 98, "passed"),
        ("min_int8_ops", 99, "failed"),
        ("max_delegates", 1, "not applicable"),
        ("calibration_sha256", "cd" * 32, "passed"),
        ("calibration_sha256", "ab" * 32, "failed"),
        ("versions", {"torch": "2.13.0"}, "passed"),
        ("versions", {"torch": "2.12.0"}, "failed"),
        ("versions", {"nncf": "3.0"}, "undecided"),
    ],
)
def test_gates_without_a_default(limit: str, value: Any, outcome: str) -> None:
    (gate,) = _results({limit: value}).values()
    assert gate.outcome == outcome


def test_identical_logits_pass_any_sqnr() -> None:
    same = reports.accuracy(
        float_margin=1.6, sqnr_db=None, agreement_pct=100.0, top1_drop_pp=0.0, top1_lost=0, top1_gained=0, top1_pct=81.3
    )
    assert _results({"min_sqnr_db": 60.0}, accuracy=same)["sqnr_db"].outcome == "passed"


def test_an_sqnr_against_nothing_is_undecided() -> None:
    zeros = reports.accuracy(sqnr_db=None, agreement_pct=100.0, float_margin=0.0)
    assert _results({"min_sqnr_db": 60.0}, accuracy=zeros)["sqnr_db"].outcome == "undecided"


@pytest.mark.parametrize(("runs", "outcome"), [(1, "undecided"), (9, "undecided"), (10, "passed")])
def test_a_speedup_of_few_rounds_has_no_interval(runs: int, outcome: str) -> None:
    assert _results(latency=reports.latency(runs=runs))["speedup"].outcome == outcome


def test_a_file_of_which_no_layer_was_compared_never_passes() -> None:
    nothing = _results(program_match=ProgramMatch(constants=0, layers=0))["program_departures"]
    assert nothing.outcome == "undecided"
    limits = {"max_program_departures": 5}
    other = ProgramMatch(constants=9, layers=0, departures=("the file has 92 layers, the program 93",))
    assert _results(limits, program_match=other)["program_departures"].outcome == "failed"


def test_core_ml_without_images_still_has_no_latency_here() -> None:
    report = reports.report(onnx=reports.UNMEASURED.model_copy(update={"bundle": "onnx"}))
    simulated = reports.agreement().participants[2].model_copy(update={"executed": False})
    table = reports.agreement().model_copy(update={"participants": (*reports.agreement().participants[:2], simulated)})
    for agreement, outcome in ((reports.agreement(), "undecided"), (table, "not applicable"), (None, "undecided")):
        figures = figures_of(report.targets["onnx"], report.model_copy(update={"agreement": agreement}))
        (speedup,) = [gate for gate in check(figures, Limits(LIMITS)) if gate.name == "speedup"]
        assert speedup.outcome == outcome
