"""The demo at full size, judged by the gates: their default limits, and the baseline of an earlier build.

``make baselines`` makes ``tests/baselines/demo.json`` anew and shows what changed. Nothing is compared beside the
gates, so what these tests hold, every project can hold with ``levit-edge gate``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from levit_edge.gates.intervals import share
from levit_edge.pipeline.build import build
from levit_edge.pipeline.gate import gate
from levit_edge.pipeline.options import BuildOptions, GateOptions
from levit_edge.report.answers import GateCheck
from levit_edge.report.schema import Report
from targets.registry import TARGETS
from tests.places import BASELINE, BASELINE_GATES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def check(demo_folder: Path) -> GateCheck:
    return gate(GateOptions(demo_folder / "report.json", baseline=BASELINE, gates=BASELINE_GATES))


@pytest.mark.parametrize("name", TARGETS)
def test_every_gate_passes_against_the_baseline(name: str, check: GateCheck) -> None:
    stopped = [result for result in check.targets[name] if result.outcome in ("failed", "undecided")]
    assert not stopped and check.passed
    passed = {result.name for result in check.targets[name] if result.outcome == "passed"}
    assert {"top1_drop_pp", "agreement_pct", "program_departures", "size_ratio"} <= passed
    assert {"baseline_model", "baseline_evaluation", "baseline_calibration", "baseline_top1_drop_pp"} <= passed


def test_nothing_is_warned_about(demo: Report) -> None:
    assert demo.verdict == "passed" and not demo.warnings
    assert {name for name, entry in demo.targets.items() if entry.warnings} <= {"coreml"}


def test_every_runtime_answers_as_its_own_program_does(demo: Report) -> None:
    """One answer in a hundred may differ: nothing shows, with 95 % confidence, that more do."""
    assert demo.agreement is not None and demo.agreement.n == 200
    found = {participant.name: agreed_pct for participant, agreed_pct, _ in demo.agreement.against_program()}
    assert len(found) >= len(TARGETS)
    assert all(share(round(2 * agreed_pct), 200).high >= 99 for agreed_pct in found.values()), found


def test_a_float16_package_passes_its_gates(tmp_path: Path) -> None:
    report = build(BuildOptions(recipe="fp16", targets=("coreml",), out=tmp_path / "fp16"))
    assert report.verdict == "passed"
    accuracy = report.targets["coreml"].accuracy
    assert accuracy is not None and accuracy.n == 1000 and accuracy.sqnr_db is not None and accuracy.sqnr_db > 50
