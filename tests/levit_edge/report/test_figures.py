"""A report as a person reads it, in report.md and on the terminal."""

from __future__ import annotations

import re

import pytest
from rich.console import Console

from levit_edge.report import figures
from levit_edge.report.figures import Figure, figure_table
from levit_edge.report.kept_float import step_rows, step_title
from levit_edge.report.markdown import render_markdown
from levit_edge.report.mixed_precision import Confirmed, KeptTensor, MixedPrecision
from levit_edge.report.schema import Report, TargetReport
from levit_edge.report.terminal import summary_table
from tests.levit_edge.report import reports
from tests.levit_edge.report.reports import FAILED, OUTSIDE, PASSED, UNDECIDED, UNMEASURED


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
    measured = {"model", "kept float", "size, float to built", "size ratio", "verdict"}
    assert {text for figure, text in rows.items() if figure not in measured} == {"not run"}
    assert not re.search(r"\| 0(\.0+)? ", render_markdown(reports.report(coreml=UNMEASURED)))


def test_figures_of_a_device_are_shown_with_their_source() -> None:
    rows = _rows(reports.everything_on_a_device())
    assert rows["device accuracy from"] == f"{reports.ON_DEVICE}, 200 images"
    assert rows["device top-1, float to built"] == "81.30 to 81.00 %"
    assert rows["device agreement with float"] == "99.00 %"
    assert rows["device agreement with this host"] == "99.50 % (41.2 dB)"
    assert rows["device instructions from"] == f"{reports.ON_DEVICE}, 3 inferences"
    assert (rows["device float, instructions"], rows["device built, instructions"]) == ("116.7 M", "61.2 M")
    assert rows["device ratio (spread)"] == "1.91x (1.00 %)"
    assert not [figure for figure, text in rows.items() if figure.startswith("device") and " ms" in text]


def test_a_device_that_times_shows_its_times() -> None:
    rows = _rows(reports.everything_on_a_device(latency=reports.latency(runtime="onnxruntime on a board", threads=4)))
    assert rows["device latency from"] == "onnxruntime on a board, 4 threads, 60 runs"
    assert rows["device speedup (95 % interval)"] == "2.00x (1.90 to 2.10)"


def test_rows_of_a_device_are_there_when_one_target_has_them() -> None:
    assert not [label for label in _rows(reports.target()) if label.startswith("device")]
    both = reports.report(coreml=UNMEASURED, onnx=reports.everything_on_a_device())
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
    text = render_markdown(reports.report(onnx=reports.everything_on_a_device(), coreml=UNMEASURED))
    assert f"on {reports.DEVICE}, per inference:" in text
    assert "| libonnxruntime.so | MlasGemmS8S8KernelSDot | sdot | 40.0 M | 65.4 % |" in text
    assert "| other | other | other | 21.2 M | 34.6 % |" in text
    assert text.count("| library | function |") == 1


def test_markdown_shows_who_agrees_with_whom() -> None:
    report = reports.report(onnx=reports.everything_on_a_device(), coreml=UNMEASURED).model_copy(
        update={"agreement": reports.agreement()}
    )
    text = render_markdown(report)
    assert "on the same 2 images of `pets`" in text
    assert "| torch float | - | 100.00 | 0.00 |\n| onnx program | 100.00 | - | 0.00 |" in text
    assert "| torch float | - | 17.0 | -3.0 |" in text
    assert "| onnx x | ort | yes |" in text
    assert _cells(text, "agreement with its program") == ["not run", "0.00 % (-2.2 dB)"]
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({row.count("|") for row in table.splitlines()}) == 1, table


def test_without_labels_the_top_figures_say_so() -> None:
    unlabelled = reports.accuracy(
        n_labelled=0, top1_fp32_pct=None, top1_pct=None, top1_drop_pp=None, top5_pct=None, top1_lost=None, sqnr_db=None
    )
    rows = _rows(reports.target(accuracy=unlabelled))
    assert [rows[name] for name in ("top-1, float", "top-1", "top-1 drop", "top-5")] == ["no labels"] * 4
    assert rows["agreement with float"] == "99.00 %"
    assert rows["SQNR"] == "no finite value"


def test_markdown_of_gates_and_warnings_keeps_its_tables() -> None:
    target = reports.target(gates=(PASSED, FAILED, OUTSIDE, UNDECIDED), warnings=("line one\nline two",))
    text = render_markdown(reports.report(onnx=target).model_copy(update={"warnings": ("mind | this",)}))
    assert "## onnx: failed (1 not applicable)\n" in text
    assert r"| agreement_pct | 97 | 98 | failed | a \| b c |" in text
    assert "| speedup | not run | 1 | not applicable | no runtime ran here |" in text
    assert "| top1_drop_pp | 0.4 (-0.2 to 1.1) | 0.5 | undecided |  |" in text
    assert "> Warning: line one line two\n" in text
    assert "> Warning: mind \\| this\n" in text
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(widths) == 1, table


def test_a_report_without_calibration() -> None:
    text = render_markdown(reports.report(onnx=reports.target()).model_copy(update={"calibration": None}))
    assert "Not calibrated" in text


def test_the_evaluated_images_and_the_model_are_named_once() -> None:
    report = reports.report(onnx=reports.target()).model_copy(update={"evaluation": reports.evaluation()})
    line = "Evaluated on 1000 images of photos (sha256 efefefefefef)"
    for text in (render_markdown(report), _printed(report)):
        assert text.count(line) == text.count("efefef") // 2 == 1
        assert "levit-128S (demo)" in text and "random weights" not in text
    earlier = reports.report(onnx=reports.target())
    assert "valuated on" not in render_markdown(earlier) + _printed(earlier)


def test_random_weights_are_named_once() -> None:
    report = reports.report(onnx=reports.target())
    report = report.model_copy(update={"model": report.model.model_copy(update={"random_weights": True})})
    for text in (render_markdown(report), _printed(report)):
        assert text.count("random weights") == text.count("levit-128S (random weights)") == 1


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


SEARCHED = MixedPrecision(
    goal_db=35.0,
    goal_drop_pp=0.2,
    images=64,
    confirmed_images=1000,
    before_db=33.25,
    before_confirmed=Confirmed(sqnr_db=32.0),
    reached=True,
    confirmed=Confirmed(sqnr_db=35.5, top1_drop_pp=0.1),
    kept=(
        KeptTensor(tensor="blocks.2.k layer", sqnr_db=35.1, float_macs=1_600_000, confirmed=Confirmed(sqnr_db=34.0)),
        KeptTensor(
            tensor="stem.1 input",
            sqnr_db=36.2,
            float_macs=14_450_000,
            confirmed=Confirmed(sqnr_db=35.5, top1_drop_pp=0.1),
        ),
    ),
)


def test_the_way_to_a_goal_is_shown_step_by_step() -> None:
    text = render_markdown(reports.report(onnx=reports.target(mixed_precision=SEARCHED)))
    title = "at least 35 dB and a top-1 drop of at most 0.2 pp: met, simulated on 1000 images (searched on 64)"
    assert f"Asked for {title}:" in text
    assert _cells(text, "nothing") == ["33.2 dB | 32.0 dB | - | 0.00 M"]
    assert _cells(text, "blocks.2.k layer") == ["35.1 dB | 34.0 dB | - | 1.60 M"]
    assert _cells(text, "stem.1 input") == ["36.2 dB | 35.5 dB | 0.10 pp | 16.05 M"]


def test_a_goal_that_nothing_met_says_so() -> None:
    found = SEARCHED.model_copy(update={"goal_drop_pp": None, "reached": False, "kept": ()})
    assert step_title(found) == "Asked for at least 35 dB: not met, simulated on 1000 images (searched on 64)"
    assert step_rows(found) == [("nothing", "33.2 dB", "32.0 dB", "-", "0.00 M")]
