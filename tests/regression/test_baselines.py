"""The recorded baseline itself: complete, of the default recipe, and within what the project promises."""

from __future__ import annotations

import pytest

from levit_edge.pipeline.gate import gate
from levit_edge.pipeline.options import GateOptions
from levit_edge.report.schema import Report, load_report
from targets.registry import TARGETS
from tests.places import BASELINE, BASELINE_GATES

EMULATED = "qemu-arm64:cortex-a76"


@pytest.fixture(scope="module")
def baseline() -> Report:
    return load_report(BASELINE)


def test_the_baseline_is_a_whole_build_of_the_demo(baseline: Report) -> None:
    assert list(baseline.targets) == sorted(TARGETS) and baseline.verdict == "passed"
    assert baseline.evaluation is not None and baseline.evaluation.n == 1000
    for name, entry in baseline.targets.items():
        assert entry.recipe == "int8" and set(TARGETS[name].versions()) == set(entry.tool_versions)
        assert entry.accuracy is not None and entry.accuracy.outcomes is not None
        assert list(entry.devices) == ([] if name == "coreml" else [EMULATED])


def test_the_baseline_does_not_regress_from_itself() -> None:
    check = gate(GateOptions(BASELINE, baseline=BASELINE, gates=BASELINE_GATES))
    assert check.passed and check.verdict == "passed"


@pytest.mark.parametrize("name", ["executorch", "onnx"])
def test_the_baseline_keeps_the_promises(name: str, baseline: Report) -> None:
    """Half a point of top-1, faster than float, and at least as many instructions as 305 million multiply-adds take."""
    entry = baseline.targets[name]
    assert entry.accuracy is not None and entry.accuracy.top1_drop_pp is not None and entry.accuracy.top1_drop_pp <= 0.5
    assert entry.latency is not None and entry.latency.speedup > {"executorch": 1.5, "onnx": 1.1}[name]
    counted = entry.devices[EMULATED].instructions
    assert counted is not None
    assert 305e6 / 16 < counted.instructions < 0.75 * counted.fp32_instructions  # sixteen by each, in int8


def test_core_ml_loses_no_more_than_half_a_point(baseline: Report) -> None:
    accuracy = baseline.targets["coreml"].accuracy
    assert accuracy is not None and accuracy.top1_drop_pp is not None and accuracy.top1_drop_pp <= 0.5
