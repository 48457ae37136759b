"""``report.json`` as data, and as a person reads it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from levit_edge.errors import InputError
from levit_edge.metrics.agreement import Agreement, AgreementMeter, Participant
from levit_edge.metrics.latency import LatencyStats, Speedup
from levit_edge.report import figures
from levit_edge.report.figures import Figure, figure_table
from levit_edge.report.markdown import render_markdown
from levit_edge.report.schema import GateResult, Latency, Report, TargetReport, load_report
from levit_edge.report.terminal import summary_table
from tests.levit_edge.report import reports

UNMEASURED = reports.target(bundle="coreml", model_file="model.mlpackage", accuracy=None, latency=None, delegation=None)
PASSED = GateResult(name="size_ratio", value=0.284, limit=0.29, passed=True)
FAILED = GateResult(name="agreement_pct", value=97.0, limit=98.0, passed=False, note="a | b\nc")
SKIPPED = GateResult(name="speedup", value=None, limit=1.0, passed=None, note="no runtime ran here")


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
    assert set(target["delegation"]) == {"delegates", "int8_ops", "float_ops", "fallback_ops"}
    assert target["gates"][0] == {"name": "size_ratio", "value": 0.284, "limit": 0.29, "passed": True, "note": ""}


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
        ((), "not measured", True),
        ((SKIPPED,), "not measured", True),
        ((PASSED, SKIPPED), "passed", True),
        ((PASSED, FAILED, SKIPPED), "failed", False),
    ],
)
def test_skipped_is_not_passed(gates: tuple[GateResult, ...], verdict: str, passed: bool) -> None:
    target = reports.target(gates=gates)
    assert target.verdict == verdict
    assert reports.report(onnx=target, coreml=UNMEASURED).passed is passed


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


def _cells(text: str, figure: str) -> list[str]:
    return re.findall(rf"^\| {re.escape(figure)} \| (.*) \|$", text, flags=re.MULTILINE)


def test_markdown_names_the_runtime_and_the_threads() -> None:
    simulated = reports.target(accuracy=reports.accuracy(runtime="converted program", executed=False))
    text = render_markdown(reports.report(coreml=simulated, onnx=reports.target(gates=(PASSED,))))
    assert _cells(text, "accuracy from") == ["converted program, simulated", "onnxruntime 1.31.1, executed"]
    assert _cells(text, "latency from") == ["onnxruntime 1.31.1, 1 thread, 60 runs"] * 2
    assert _cells(text, "size, float to built") == ["31.00 to 8.80 MB"] * 2
    assert _cells(text, "top-1 drop") == ["+0.30 pp"] * 2
    assert _cells(text, "speedup (95 % interval)") == ["2.00x (1.90 to 2.10)"] * 2
    assert _cells(text, "operators, int8 / float / fallback") == ["98 / 11 / -"] * 2
    assert "## onnx: passed\n" in text
    assert "## coreml: not measured\n" in text
    assert "Built with onnx 1.23.2, torch 2.13.0." in text
    assert "Calibrated on 256 images of `demo` (seed 0, sha256 `cdcdcdcdcdcd`)." in text


def _rows(target: TargetReport) -> dict[str, str]:
    return dict(figure_table(reports.report(onnx=target)))


def test_not_run_is_never_zero() -> None:
    rows = _rows(UNMEASURED)
    assert set(rows) == set(_rows(reports.target()))
    measured = {"model", "size, float to built", "size ratio", "verdict"}
    assert {text for figure, text in rows.items() if figure not in measured} == {"not run"}
    assert not re.search(r"\| 0(\.0+)? ", render_markdown(reports.report(coreml=UNMEASURED)))


def _on_device(**figures: Any) -> TargetReport:
    """A target that another device answered and counted, and with ``figures`` more."""
    found = reports.on_device().model_copy(update={"instructions": reports.instructions(), **figures})
    return reports.target(devices={reports.DEVICE: found})


def test_figures_of_a_device_are_shown_with_their_source() -> None:
    rows = _rows(_on_device())
    assert rows["device accuracy from"] == f"{reports.ON_DEVICE}, 200 images"
    assert rows["device top-1, float to built"] == "81.30 to 81.00 %"
    assert rows["device agreement with float"] == "99.00 %"
    assert rows["device agreement with this host"] == "99.50 % (41.2 dB)"
    assert rows["device instructions from"] == f"{reports.ON_DEVICE}, 3 inferences"
    assert (rows["device float, instructions"], rows["device built, instructions"]) == ("116.7 M", "61.2 M")
    assert rows["device ratio (spread)"] == "1.91x (1.00 %)"
    assert not [figure for figure, text in rows.items() if figure.startswith("device") and " ms" in text]


def test_a_device_that_times_shows_its_times() -> None:
    rows = _rows(_on_device(latency=reports.latency(runtime="onnxruntime on a board", threads=4)))
    assert rows["device latency from"] == "onnxruntime on a board, 4 threads, 60 runs"
    assert rows["device speedup (95 % interval)"] == "2.00x (1.90 to 2.10)"


def test_rows_of_a_device_are_there_when_one_target_has_them() -> None:
    assert not [label for label in _rows(reports.target()) if label.startswith("device")]
    both = reports.report(coreml=UNMEASURED, onnx=_on_device())
    (row,) = [row for row in figure_table(both) if row[0] == "device ratio (spread)"]
    assert row[1:] == ("not run", "1.91x (1.00 %)")
    text = render_markdown(both)
    assert _cells(text, "device ratio (spread)") == ["not run", "1.91x (1.00 %)"]
    assert "device latency" not in text


def test_one_row_is_a_figure_in_markdown_and_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = Figure("threads", lambda target, _: "not run" if target.latency is None else str(target.latency.threads))
    monkeypatch.setattr(figures, "FIGURES", (*figures.FIGURES, threads))
    report = reports.report(coreml=UNMEASURED, onnx=reports.target())
    assert _cells(render_markdown(report), "threads") == ["not run", "1"]
    (line,) = [line for line in _printed(report).splitlines() if " threads " in line]
    assert line.index("not run") < line.index(" 1 ")


def test_markdown_says_where_the_instructions_go() -> None:
    text = render_markdown(reports.report(onnx=_on_device(), coreml=UNMEASURED))
    assert f"on {reports.DEVICE}, per inference:" in text
    assert "| libonnxruntime.so | MlasGemmS8S8KernelSDot | sdot | 40.0 M | 65.4 % |" in text
    assert "| other | other | other | 21.2 M | 34.6 % |" in text
    assert text.count("| library | function |") == 1


def _table() -> Agreement:
    floats = np.array([[1.0, 0.0], [0.0, 1.0]])
    shifted, turned = floats + 0.1, floats[::-1]
    people = [
        (Participant(name="torch float", target=None, runtime="torch 2.13", executed=False), floats),
        (Participant(name="onnx program", target="onnx", runtime="torch 2.13", executed=False), shifted),
        (Participant(name="onnx x", target="onnx", runtime="ort", executed=True, program="onnx program"), turned),
    ]
    meter = AgreementMeter([participant for participant, _ in people])
    meter.update([logits for _, logits in people])
    return meter.result("pets")


def test_markdown_shows_who_agrees_with_whom() -> None:
    report = reports.report(onnx=_on_device(), coreml=UNMEASURED).model_copy(update={"agreement": _table()})
    text = render_markdown(report)
    assert "on the same 2 images of `pets`" in text
    assert "| torch float | - | 100.00 | 0.00 |\n| onnx program | 100.00 | - | 0.00 |" in text
    assert "| torch float | - | 17.0 | -3.0 |" in text
    assert "| onnx x | ort | yes |" in text
    assert _cells(text, "agreement with its program") == ["not run", "0.00 % (-2.2 dB)"]
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({row.count("|") for row in table.splitlines()}) == 1, table


def test_a_report_with_a_device_survives_the_disk(tmp_path: Path) -> None:
    report = reports.report(onnx=_on_device()).model_copy(update={"agreement": _table()})
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


@pytest.mark.parametrize("target", [reports.target(), _on_device()], ids=["without a device", "with a device"])
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


def test_without_labels_the_top_figures_say_so() -> None:
    unlabelled = reports.accuracy(
        n_labelled=0, top1_fp32_pct=None, top1_pct=None, top1_drop_pp=None, top5_pct=None, top1_lost=None, sqnr_db=None
    )
    rows = _rows(reports.target(accuracy=unlabelled))
    assert [rows[name] for name in ("top-1, float", "top-1", "top-1 drop", "top-5")] == ["no labels"] * 4
    assert rows["agreement with float"] == "99.00 %"
    assert rows["SQNR"] == "no finite value"


def test_markdown_of_gates_and_warnings_keeps_its_tables() -> None:
    target = reports.target(gates=(PASSED, FAILED, SKIPPED), warnings=("line one\nline two",))
    text = render_markdown(reports.report(onnx=target).model_copy(update={"warnings": ("mind | this",)}))
    assert "## onnx: failed (1 skipped)\n" in text
    assert r"| agreement_pct | 97.000 | 98.000 | failed | a \| b c |" in text
    assert "| speedup | not run | 1.000 | skipped | no runtime ran here |" in text
    assert "> Warning: line one line two\n" in text
    assert "> Warning: mind \\| this\n" in text
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(widths) == 1, table


def test_a_report_without_calibration() -> None:
    text = render_markdown(reports.report(onnx=reports.target()).model_copy(update={"calibration": None}))
    assert "Not calibrated" in text


def _printed(report: Report) -> str:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(summary_table(report))
    return captured.get()


def test_the_terminal_table_has_a_column_per_target() -> None:
    text = _printed(reports.report(coreml=UNMEASURED, onnx=reports.target(gates=(FAILED,))))
    header = next(line for line in text.splitlines() if "coreml" in line and "onnx" in line)
    assert header.index("coreml") < header.index("onnx")
    [verdict] = [line for line in text.splitlines() if "verdict" in line]
    assert verdict.index("not measured") < verdict.index("failed")
    [speedup] = [line for line in text.splitlines() if "speedup" in line]
    assert speedup.index("not run") < speedup.index("2.00x")


def test_a_target_report_is_strict() -> None:
    with pytest.raises(ValueError, match="size_byte"):
        TargetReport.model_validate(reports.target().model_dump() | {"size_byte": 1})
    with pytest.raises(ValueError, match="finite"):
        TargetReport.model_validate(reports.target().model_dump() | {"size_ratio": float("nan")})
