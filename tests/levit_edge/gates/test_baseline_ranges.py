"""The quantization ranges of a report against those of an earlier one."""

from __future__ import annotations

from typing import Any

import pytest

from levit_edge.gates.baseline import compare_to_baseline
from levit_edge.gates.gates_file import GatesFile, Regression
from levit_edge.report.gate_result import GateResult
from levit_edge.report.schema import Report
from tests.levit_edge.report import reports

RANGES = {"blocks.0.q output": (-2.0, 6.0), "head weight": (-0.5, 0.5), "stem.0 input": (0.0, 1.0)}
NAME = "baseline_ranges"


def _report(ranges: dict[str, tuple[float, float]], **target: Any) -> Report:
    return reports.report(onnx=reports.target(ranges=ranges, **target))


def _judged(now: Report, before: Report, **regression: Any) -> GateResult | None:
    file = GatesFile(regression=Regression(**regression))
    return {gate.name: gate for gate in compare_to_baseline(now, before, file)["onnx"]}.get(NAME)


@pytest.mark.parametrize(
    ("changed", "outcome", "value", "named"),
    [
        ({}, "passed", 0.0, []),
        ({"blocks.0.q output": (-2.4, 6.8)}, "passed", 10.0, []),
        ({"blocks.0.q output": (-2.9, 6.0)}, "failed", 11.25, ["blocks.0.q output [-2, 6] -> [-2.9, 6]"]),
        ({"head weight": (-2.0, 2.0), "stem.0 input": (0.0, 0.5)}, "failed", 150.0, ["head weight", "stem.0 input"]),
        ({"blocks.0.k output": (-1.0, 1.0)}, "failed", 100.0, ["blocks.0.k output float -> [-1, 1]"]),
    ],
)
def test_a_range_that_moved_is_named(
    changed: dict[str, tuple[float, float]], outcome: str, value: float, named: list[str]
) -> None:
    result = _judged(_report(RANGES | changed), _report(RANGES))
    assert result is not None and (result.outcome, result.value) == (outcome, pytest.approx(value))
    parts = result.note.split("; ") if result.note else []
    assert len(parts) == len(named) and all(part.startswith(words) for part, words in zip(parts, named, strict=True))


def test_a_tensor_that_is_float_now_fails_and_no_ranges_are_undecided() -> None:
    fewer = {name: ends for name, ends in RANGES.items() if name != "stem.0 input"}
    result = _judged(_report(fewer), _report(RANGES))
    assert result is not None and (result.outcome, result.note) == ("failed", "stem.0 input [0, 1] -> float")
    result = _judged(_report({}), _report(RANGES))
    assert result is not None and result.outcome == "undecided"
    assert _judged(_report(RANGES), _report({})) is None  # the baseline is of a version that did not record them


def test_with_other_images_or_an_accepted_recipe_there_is_nothing_to_compare() -> None:
    before = _report(RANGES)
    images = before.model_copy(update={"calibration": reports.calibrated(sha256="0" * 64).calibration})
    recipe = _report(RANGES, recipe_settings={"weight_range": "mse"})
    for now, accepted in ((images, ()), (images, ("calibration",)), (recipe, ("recipe",))):
        result = _judged(now, before, accept_difference=accepted)
        assert result is not None and result.outcome == "not applicable" and "another " in result.note


@pytest.mark.parametrize("limit", [100, float("inf"), -1])
def test_no_limit_lets_a_tensor_become_float(limit: float) -> None:
    with pytest.raises(ValueError, match="ranges_pct"):
        Regression(ranges_pct=limit)
