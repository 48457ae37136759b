"""Limits and small samples, all without a model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levit_edge.errors import InputError
from levit_edge.gates.absolute import evaluate, tolerated_events, tolerated_net_loss
from levit_edge.gates.limits import TARGETS, Thresholds, default_thresholds, load_thresholds, thresholds_for
from levit_edge.report.schema import GateResult
from tests.levit_edge.report import reports

NAMES = ["top1_drop_pp", "agreement_pct", "size_ratio", "speedup"]


def _results(thresholds: Thresholds | None = None, **changes: Any) -> dict[str, GateResult]:
    limits = thresholds or default_thresholds("int8", "onnx")
    return {gate.name: gate for gate in evaluate(reports.target(**changes), limits)}


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
    assert list(_results(Thresholds(min_speedup=None, max_top1_drop_pp=None))) == ["agreement_pct"]


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
    assert ("cannot resolve the limit 0.5" in gate.note) is (gate.limit > 0.5)
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
    assert ("cannot resolve the limit 99" in gate.note) is (n == 80)


def test_a_device_has_its_own_limit_and_no_limit_without_a_device() -> None:
    devices = {reports.DEVICE: reports.on_device(99.5, n=400)}
    assert _results(Thresholds(min_device_agreement_pct=99.6), devices=devices)["device_agreement_pct"].passed is False
    assert "device_agreement_pct" not in _results(Thresholds(min_device_agreement_pct=None), devices=devices)
    assert "device_agreement_pct" not in _results()


def test_a_device_is_not_held_to_the_answers_of_a_model_that_guesses() -> None:
    guess = reports.on_device(50.0, 400, top1_fp32_pct=0.0, top1_pct=0.0, top1_drop_pp=0.0, float_margin=0.2)
    entry = reports.target(devices={reports.DEVICE: guess})
    gates = {gate.name: gate.passed for gate in evaluate(entry, default_thresholds("int8", "onnx"), 1000)}
    assert gates["device_agreement_pct"] is None


def test_a_limit_of_zero_is_literal() -> None:
    limits = Thresholds(max_top1_drop_pp=0, min_agreement_pct=100)
    results = _results(limits, accuracy=reports.few_images(10, 1, 0))  # one of one: 50 %
    assert (results["top1_drop_pp"].passed, results["agreement_pct"].passed) == (False, False)
    assert (results["top1_drop_pp"].limit, results["agreement_pct"].limit) == (0, 100)


@given(n=st.integers(1, 60), rate=st.sampled_from([0.02, 0.5, 0.9]))
def test_tolerated_events_are_the_exact_binomial_tail(n: int, rate: float) -> None:
    def reach(count: int) -> float:
        return sum(math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(count, n + 1))

    tolerated = tolerated_events(n, rate)
    assert reach(tolerated) >= 0.05 - 1e-12
    assert tolerated == n or reach(tolerated + 1) < 0.05 + 1e-12


def test_no_flips_tolerate_nothing() -> None:
    assert [tolerated_net_loss(flips) for flips in (0, 1, 4, 5, 12)] == [0, 1, 4, 3, 6]


def test_default_limits_per_recipe_and_target() -> None:
    assert [default_thresholds("int8", name).max_size_ratio for name in TARGETS] == [0.32, 0.29, 0.29]
    assert default_thresholds("int8", "onnx") == Thresholds(max_size_ratio=0.29)
    for recipe in ("fp32", "fp16", "w8a16"):
        assert default_thresholds(recipe, "coreml").min_speedup is None
    for bad in (("int4", "onnx"), ("int8", "tflite")):
        with pytest.raises(InputError, match="valid: "):
            default_thresholds(*bad)


def _toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "limits.toml"
    path.write_text(text)
    return path


def test_limits_from_a_file(tmp_path: Path) -> None:
    lines = (
        "max_top1_drop_pp = 1",
        "min_device_agreement_pct = 98.5",
        "min_speedup = 1.5",
        "[coreml]",
        'min_speedup = "off"',
        "max_size_ratio = 0.3",
    )
    changes = load_thresholds(_toml(tmp_path, "\n".join(lines)))
    assert thresholds_for("int8", "onnx", changes) == Thresholds(
        max_top1_drop_pp=1, min_agreement_pct=98, min_device_agreement_pct=98.5, max_size_ratio=0.29, min_speedup=1.5
    )
    coreml = thresholds_for("int8", "coreml", changes)
    assert (coreml.max_top1_drop_pp, coreml.max_size_ratio, coreml.min_speedup) == (1, 0.3, None)
    assert thresholds_for("int8", "onnx") == default_thresholds("int8", "onnx")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = ", "cannot be read as thresholds"),
        ("max_drop = 1", "unknown key 'max_drop'; valid: max_top1_drop_pp"),
        ("[tflite]\nmin_speedup = 1", "unknown key 'tflite'"),
        ("[onnx]\nmax_drop = 1", r"unknown key 'onnx\.max_drop'"),
        ("min_speedup = true", 'min_speedup is True; give a number, or "off"'),
        ('min_speedup = "fast"', "min_speedup is 'fast'; give a number"),
        ("[onnx]\nmin_agreement_pct = 101", "min_agreement_pct is 101.*less than or equal to 100"),
        ("onnx = 3", "onnx is 3"),
        ("min_speedup = nan", "min_speedup is nan"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as failure:
        load_thresholds(_toml(tmp_path, text))
    assert "limits.toml" in str(failure.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read as thresholds"):
        load_thresholds(tmp_path / "absent.toml")


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
    (gate,) = [g for g in evaluate(entry, default_thresholds("int8", "onnx"), 1000) if g.name == "agreement_pct"]
    assert gate.passed is (None if skipped else False)
