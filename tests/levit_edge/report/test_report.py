"""``report.json`` as data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from levit_edge.errors import InputError
from levit_edge.metrics.latency import LatencyStats, Speedup
from levit_edge.report.gate_result import GateResult
from levit_edge.report.schema import Delegation, EvaluationSet, Latency, Report, TargetReport, load_report
from tests.levit_edge.report import reports
from tests.levit_edge.report.reports import FAILED, OUTSIDE, PASSED, UNDECIDED, UNMEASURED


def test_the_keys_of_the_contract() -> None:
    data = json.loads(reports.report(onnx=reports.target(gates=(PASSED,))).to_json())
    assert list(data)[:5] == ["schema_version", "host", "model", "calibration", "targets"]
    target = data["targets"]["onnx"]
    assert {"size_bytes", "size_ratio", "accuracy", "latency", "delegation", "gates"} <= set(target)
    assert {
        "runtime",
        "executed",
        "n",
        "top1_fp32_pct",
        "top1_pct",
        "top1_drop_pp",
        "top5_pct",
        "agreement_pct",
    } <= set(target["accuracy"])
    assert target["accuracy"]["sqnr_db"] == 27.25
    assert {"runtime", "threads", "fp32_ms", "int8_ms", "speedup"} <= set(target["latency"])
    assert target["latency"]["int8_ms"] == {"median": 4.0, "p90": 4.25}
    assert set(target["delegation"]) == {"delegates", "int8_ops", "float_ops", "fallback_ops", "operators"}
    gate = target["gates"][0]
    assert {name: gate[name] for name in ("name", "value", "limit", "passed", "outcome", "note")} == {
        "name": "size_ratio",
        "value": 0.284,
        "limit": 0.29,
        "passed": True,
        "outcome": "passed",
        "note": "",
    }
    assert (data["verdict"], target["verdict"]) == ("passed", "passed")


def test_what_nobody_measured_is_null() -> None:
    target = json.loads(reports.report(coreml=UNMEASURED).to_json())["targets"]["coreml"]
    assert (target["accuracy"], target["latency"], target["delegation"]) == (None, None, None)


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    one = reports.report(onnx=reports.target(), coreml=UNMEASURED)
    two = reports.report(coreml=UNMEASURED, onnx=reports.target(tool_versions={"onnx": "1.23.2", "torch": "2.13.0"}))
    assert one.to_json() == two.to_json()
    (tmp_path / "report.json").write_text(one.to_json(), encoding="utf-8")
    assert load_report(tmp_path / "report.json") == one
    assert load_report(tmp_path / "report.json").to_json() == one.to_json()


@pytest.mark.parametrize(
    ("gates", "verdict", "passed"),
    [
        ((), "not measured", False),
        ((OUTSIDE,), "not measured", False),
        ((PASSED, OUTSIDE), "passed", True),
        ((PASSED, OUTSIDE, UNDECIDED), "undecided", False),
        ((PASSED, FAILED, UNDECIDED), "failed", False),
    ],
)
def test_what_was_not_shown_is_not_passed(gates: tuple[GateResult, ...], verdict: str, passed: bool) -> None:
    target = reports.target(gates=gates)
    assert target.verdict == verdict
    assert reports.report(onnx=target).passed is passed
    both = reports.report(onnx=target, coreml=UNMEASURED)  # nothing was shown of one of them
    assert not both.passed and both.verdict == (verdict if verdict in ("failed", "undecided") else "not measured")


def _changed(**changes: Any) -> str:
    return json.dumps(json.loads(reports.report(onnx=reports.target()).to_json()) | changes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "does not exist"),
        ("{", "is not JSON"),
        (b"\xff\xfe", "cannot be read"),
        ("[]", "is not a levit-edge report"),
        (_changed(schema_version=2), r"has schema_version 2; this levit-edge reads 1"),
        (_changed(model=3), "not a levit-edge report: model"),
        (_changed(surprise=1), "not a levit-edge report: surprise"),
    ],
)
def test_a_bad_report_is_one_line(tmp_path: Path, text: str | bytes | None, words: str) -> None:
    path = tmp_path / "report.json"
    if text is not None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InputError, match=words) as failure:
        load_report(path)
    assert str(path) in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_folder_is_not_a_report(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read as a report"):
        load_report(tmp_path)


def test_latency_from_a_measurement() -> None:
    entry = Latency.of(
        runtime="executorch 1.4.1",
        threads=2,
        fp32=LatencyStats(8.0, 9.0, (8.0, 9.0)),
        int8=LatencyStats(4.0, 5.0, (4.0, 5.0)),
        speedup=Speedup(1.9, 1.8, 2.0),
    )
    assert (entry.runtime, entry.threads, entry.runs) == ("executorch 1.4.1", 2, 2)
    assert (entry.fp32_ms.median, entry.fp32_ms.p90, entry.int8_ms.median, entry.int8_ms.p90) == (8.0, 9.0, 4.0, 5.0)
    assert (entry.speedup, entry.speedup_low, entry.speedup_high) == (1.9, 1.8, 2.0)


def test_a_report_with_a_device_survives_the_disk(tmp_path: Path) -> None:
    report = reports.report(onnx=reports.everything_on_a_device()).model_copy(update={"agreement": reports.agreement()})
    (tmp_path / "report.json").write_text(report.to_json(), encoding="utf-8")
    assert load_report(tmp_path / "report.json") == report
    data = json.loads(report.to_json())
    found = data["targets"]["onnx"]["devices"][reports.DEVICE]
    assert list(found) == ["accuracy", "local", "instructions", "latency"]
    assert found["instructions"]["instructions"] == 61_200_000 and found["latency"] is None
    assert found["local"]["agreement_pct"] == 99.5
    assert data["agreement"]["agreement_pct"][0] == [100, 100, 0]


def _as_written_before(report: Report, arm64: Any) -> str:
    """``report`` in the form of earlier versions, which had the instructions of a device in the latency."""
    data = json.loads(report.to_json())
    for target in data["targets"].values():
        target["latency"]["arm64"] = arm64
        for found in target["devices"].values():
            del found["instructions"], found["latency"]
    return json.dumps(data)


@pytest.mark.parametrize(
    "target", [reports.target(), reports.everything_on_a_device()], ids=["without a device", "with a device"]
)
def test_a_report_of_an_earlier_version_is_read(target: TargetReport, tmp_path: Path) -> None:
    report, path = reports.report(onnx=target), tmp_path / "report.json"
    counted = reports.instructions().model_dump(mode="json") if target.devices else None
    path.write_text(_as_written_before(report, counted), encoding="utf-8")
    assert load_report(path) == report


def test_a_report_of_an_earlier_version_may_have_nothing_but_instructions(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(_as_written_before(reports.report(onnx=reports.target()), reports.instructions().model_dump()))
    assert load_report(path) == reports.report(onnx=reports.counted(reports.instructions()))
    path.write_text(_as_written_before(reports.report(onnx=reports.target()), 7))
    with pytest.raises(InputError, match=r"not a levit-edge report: targets\.onnx\.latency\.arm64"):
        load_report(path)


def _with_identity() -> Report:
    """A report that says which images were evaluated, and what became of each."""
    operators = {"QLinearConv int8 runtime": 4, "Add float runtime": 2}
    delegation = Delegation(delegates=None, int8_ops=4, float_ops=2, fallback_ops=None, operators=operators)
    report = reports.report(onnx=reports.target(accuracy=reports.measured(), delegation=delegation))
    model = report.model.model_copy(update={"random_weights": True})
    return report.model_copy(update={"evaluation": reports.evaluation(40), "model": model})


def test_a_report_says_what_was_measured(tmp_path: Path) -> None:
    report, path = _with_identity(), tmp_path / "report.json"
    path.write_text(report.to_json(), encoding="utf-8")
    found = load_report(path)
    assert found == report and found.to_json() == report.to_json()
    data = json.loads(report.to_json())
    assert data["evaluation"] == {
        "source": "photos",
        "n": 40,
        "sha256": "ef" * 32,
        "skipped_images": ["cat/1.png"],
    }
    entry = found.targets["onnx"]
    assert entry.accuracy is not None and entry.accuracy.outcomes is not None
    assert entry.accuracy.outcomes.flags().right.tolist() == [False] * 2 + [True] * 38
    assert entry.delegation is not None
    assert list(entry.delegation.operators) == ["Add float runtime", "QLinearConv int8 runtime"]
    assert found.model.random_weights


def test_a_report_without_identity_is_read(tmp_path: Path) -> None:
    """Those of earlier versions have none of it."""
    report, path = reports.report(onnx=reports.target()), tmp_path / "report.json"
    data = json.loads(report.to_json())
    del data["evaluation"], data["model"]["random_weights"]
    del data["targets"]["onnx"]["accuracy"]["outcomes"], data["targets"]["onnx"]["delegation"]["operators"]
    path.write_text(json.dumps(data), encoding="utf-8")
    found = load_report(path)
    assert found == report and found.evaluation is None and not found.model.random_weights


@pytest.mark.parametrize(
    ("part", "change", "reason"),
    [
        (("evaluation",), {"n": 39}, "accuracy.n is 40, but 39 images were evaluated"),
        (("evaluation",), {"n": 0}, "evaluation.n: Input should be greater"),
        (("evaluation",), {"sha256": "ef"}, "evaluation.sha256: String should match"),
        (("targets", "onnx", "accuracy"), {"agreement_pct": 100}, "agreement_pct is 100.0, but the outcomes"),
        (("targets", "onnx", "accuracy"), {"top1_lost": 1}, "top1_lost is 1, but the outcomes"),
        (("targets", "onnx", "accuracy", "outcomes"), {"right": "%"}, "right is not base64 of zlib"),
        (("targets", "onnx", "delegation"), {"operators": {"Add float runtime": 0}}, "greater than or equal to 1"),
    ],
)
def test_a_report_that_was_tampered_with_is_refused_in_one_line(
    tmp_path: Path, part: tuple[str, ...], change: dict[str, Any], reason: str
) -> None:
    data, path = json.loads(_with_identity().to_json()), tmp_path / "report.json"
    place = data
    for key in part:
        place = place[key]
    place |= change
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(InputError, match=reason) as failure:
        load_report(path)
    assert "\n" not in str(failure.value)


def test_an_evaluation_set_has_images() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        EvaluationSet(source="photos", n=0, sha256="ef" * 32)


def test_a_target_report_is_strict() -> None:
    with pytest.raises(ValueError, match="size_byte"):
        TargetReport.model_validate(reports.target().model_dump() | {"size_byte": 1})
    with pytest.raises(ValueError, match="finite"):
        TargetReport.model_validate(reports.target().model_dump() | {"size_ratio": float("nan")})
