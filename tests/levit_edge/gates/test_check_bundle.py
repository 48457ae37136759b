"""Every gate at its limit and on small samples, all without a model."""

from __future__ import annotations

from typing import Any

import pytest

from levit_edge.gates.check_bundle import check
from levit_edge.gates.check_report import figures_of
from levit_edge.gates.gate import Figures
from levit_edge.gates.resolve_limits import Limits, default_limits
from levit_edge.report.schema import GateResult
from tests.levit_edge.report import reports

LIMITS = default_limits("int8", {"int8": {"max_size_ratio": 0.29}})
NAMES = ["top1_drop_pp", "agreement_pct", "size_ratio", "speedup"]


def _results(limits: Limits = LIMITS, **changes: Any) -> dict[str, GateResult]:
    return {gate.name: gate for gate in check(figures_of(reports.target(**changes)), limits)}


def test_a_good_bundle_passes_every_gate() -> None:
    results = _results()
    assert list(results) == NAMES
    assert all(gate.passed for gate in results.values())
    assert results["speedup"].note == "onnxruntime 1.31.1, threads=1"


@pytest.mark.parametrize(
    ("name", "changes", "passed"),
    [
        ("top1_drop_pp", {"accuracy": reports.accuracy(top1_drop_pp=0.5)}, True),
        ("top1_drop_pp", {"accuracy": reports.accuracy(top1_drop_pp=0.6, top1_lost=6, top1_gained=0)}, False),
        ("top1_drop_pp", {"accuracy": reports.accuracy(top1_drop_pp=0.6, top1_lost=None, top1_gained=None)}, False),
        ("top1_drop_pp", {"accuracy": reports.accuracy(top1_drop_pp=-3.0)}, True),
        ("agreement_pct", {"accuracy": reports.accuracy(agreement_pct=98.0)}, True),
        ("agreement_pct", {"accuracy": reports.accuracy(agreement_pct=97.9)}, False),
        ("size_ratio", {"size_ratio": 0.29}, True),
        ("size_ratio", {"size_ratio": 0.2901}, False),
        ("speedup", {"latency": reports.latency(speedup=1.0, speedup_low=0.9, speedup_high=1.1)}, True),
        ("speedup", {"latency": reports.latency(speedup=0.98, speedup_low=0.9, speedup_high=1.0)}, True),
        ("speedup", {"latency": reports.latency(speedup=0.98, speedup_low=0.9, speedup_high=0.99)}, False),
    ],
)
def test_each_gate_at_its_limit(name: str, changes: dict[str, Any], passed: bool) -> None:
    results = _results(**changes)
    assert results[name].passed is passed
    assert all(gate.passed for other, gate in results.items() if other != name)


def test_noise_is_named_when_it_saves_a_speedup() -> None:
    gate = _results(latency=reports.latency(speedup=0.98, speedup_low=0.9, speedup_high=1.02))["speedup"]
    assert (gate.value, gate.limit, gate.passed) == (0.98, 0.98, True)
    assert "limit 1 lies within the 95 % interval, up to 1.020" in gate.note


def test_what_was_not_measured_is_skipped_and_not_passed() -> None:
    results = _results(accuracy=None, latency=None)
    for name in ("top1_drop_pp", "agreement_pct", "speedup"):
        assert (results[name].value, results[name].passed) == (None, None)
        assert results[name].note
    assert results["size_ratio"].passed is True


def test_without_labels_only_the_drop_is_skipped() -> None:
    unlabelled = reports.accuracy(
        n_labelled=0, top1_fp32_pct=None, top1_pct=None, top1_drop_pp=None, top5_pct=None, executed=False
    )
    results = _results(accuracy=unlabelled)
    assert results["top1_drop_pp"].passed is None
    assert results["agreement_pct"].passed is True
    assert results["agreement_pct"].note.endswith("simulated")


def test_a_gate_can_be_off() -> None:
    changed = {**LIMITS, "min_speedup": None, "max_top1_drop_pp": None}
    assert list(_results(changed)) == ["agreement_pct", "size_ratio"]


def test_a_figure_that_nobody_asked_for_gives_no_result() -> None:
    devices = {reports.DEVICE: reports.on_device()}
    asked = Figures(accuracy=reports.accuracy(), devices=devices, asked=frozenset({"accuracy", "devices"}))
    assert [gate.name for gate in check(asked, LIMITS)] == ["top1_drop_pp", "agreement_pct", "device_agreement_pct"]
    unmeasured = Figures(asked=frozenset({"size_ratio", "latency"}))
    assert [(gate.name, gate.passed) for gate in check(unmeasured, LIMITS)] == [("size_ratio", None), ("speedup", None)]


@pytest.mark.parametrize(
    ("n", "lost", "gained", "passed"),
    [
        (100, 4, 0, True),  # a fair coin gives four heads of four in 6 % of cases
        (100, 5, 0, False),  # five of five: 3 %
        (100, 9, 3, True),  # nine or more of twelve: 7 %
        (100, 10, 2, False),  # ten or more of twelve: 2 %
        (199, 1, 0, True),
        (200, 1, 0, True),  # 0.5 pp is the limit itself
        (200, 2, 0, True),  # two of two: 25 %
        (1000, 9, 3, True),  # 0.6 pp, nine or more of twelve: 7 %
        (1000, 10, 2, False),  # 0.8 pp, ten or more of twelve: 2 %
        (1000, 46, 40, True),  # 0.6 pp, 46 or more of 86: 29 %
        (1000, 6, 0, False),  # six of six: 2 %
        (50_000, 1250, 999, False),  # 0.502 pp, and chance gives 79 of 2249 at most: the plain limit
        (50_000, 1250, 1000, True),  # 0.5 pp is the limit itself
    ],
)
def test_a_drop_fails_only_beyond_chance(n: int, lost: int, gained: int, passed: bool) -> None:
    gate = _results(accuracy=reports.few_images(n, lost, gained))["top1_drop_pp"]
    assert gate.passed is passed
    assert gate.value is not None
    assert (gate.value <= gate.limit) is passed
    assert ("are too few to resolve the limit 0.5; up to " in gate.note) is (gate.limit > 0.5)
    assert gate.limit >= 0.5 and (gate.limit == 0.5 or n < 50_000)


@pytest.mark.parametrize(("n", "agreed", "passed"), [(20, 18, True), (20, 17, False), (49, 46, True), (50, 48, False)])
def test_the_agreement_on_few_images_fails_only_beyond_chance(n: int, agreed: int, passed: bool) -> None:
    gate = _results(accuracy=reports.few_images(n, 0, 0, agreed))["agreement_pct"]
    assert gate.passed is passed


@pytest.mark.parametrize(
    ("agreement_pct", "n", "passed"),
    [
        (99.0, 200, True),
        (98.5, 200, False),
        (97.5, 80, True),  # two of 80: chance gives them in 19 % of cases at a rate of 1 %
        (96.25, 80, False),  # three of 80: 5 % by the exact tail is 4.7 %
    ],
)
def test_a_device_must_answer_as_this_host_does(agreement_pct: float, n: int, passed: bool) -> None:
    gate = _results(devices={reports.DEVICE: reports.on_device(agreement_pct, n)})["device_agreement_pct"]
    assert (gate.passed, gate.value) == (passed, agreement_pct)
    assert gate.note.startswith(f"{reports.DEVICE} against onnxruntime-cpu of this host")
    assert ("80 images are too few to resolve the limit 99; down to 97.5 can be chance" in gate.note) is (n == 80)


def test_a_device_has_its_own_limit_and_no_limit_without_a_device() -> None:
    devices = {reports.DEVICE: reports.on_device(99.5, n=400)}
    assert _results({"min_device_agreement_pct": 99.6}, devices=devices)["device_agreement_pct"].passed is False
    assert "device_agreement_pct" not in _results({"min_device_agreement_pct": None}, devices=devices)
    assert "device_agreement_pct" not in _results(devices=reports.counted(reports.instructions()).devices)
    assert "device_agreement_pct" not in _results()


def test_a_device_is_not_held_to_the_answers_of_a_model_that_guesses() -> None:
    guess = reports.on_device(50.0, 400, top1_fp32_pct=0.0, top1_pct=0.0, top1_drop_pp=0.0, float_margin=0.2)
    entry = reports.target(devices={reports.DEVICE: guess})
    gates = {gate.name: gate.passed for gate in check(figures_of(entry), LIMITS, 1000)}
    assert gates["device_agreement_pct"] is None


def test_a_limit_of_zero_is_literal() -> None:
    limits = {"max_top1_drop_pp": 0.0, "min_agreement_pct": 100.0}
    results = _results(limits, accuracy=reports.few_images(10, 1, 0))  # one of one: 50 %
    assert (results["top1_drop_pp"].passed, results["agreement_pct"].passed) == (False, False)
    assert (results["top1_drop_pp"].limit, results["agreement_pct"].limit) == (0, 100)


@pytest.mark.parametrize(
    ("top1", "labelled", "margin", "skipped"),
    [
        (0.0, 400, 0.2, True),  # guesses, and its answers are near ties
        (0.0, 400, 1.6, False),  # a trained model whose labels are mixed up
        (60.0, 400, 0.2, False),  # knows the images
        (100.0, 1, 0.2, False),  # too few labels to tell
    ],
)
def test_agreement_is_skipped_only_for_a_model_that_guesses(
    top1: float, labelled: int, margin: float, skipped: bool
) -> None:
    figures = {"n": 400, "n_labelled": labelled, "top1_fp32_pct": top1, "top1_pct": top1, "top1_drop_pp": 0.0}
    entry = reports.target(accuracy=reports.accuracy(**figures, agreement_pct=50.0, float_margin=margin))
    (gate,) = [g for g in check(figures_of(entry), LIMITS, 1000) if g.name == "agreement_pct"]
    assert gate.passed is (None if skipped else False)
