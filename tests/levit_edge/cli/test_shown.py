"""Answers about another device, as a terminal shows them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console, RenderableType

from levit_edge.cli import bench, evaluate
from levit_edge.pipeline.options import BenchOptions, EvaluateOptions
from levit_edge.report.answers import BenchResult, BenchRow, Evaluation
from tests.levit_edge.report import reports

BENCH = BenchOptions((Path("d/onnx"),))
EVALUATE = EvaluateOptions(Path("d/onnx"))


def _printed(parts: Iterable[RenderableType]) -> str:
    console = Console(width=160)
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    return captured.get()


def test_bench_on_an_emulator_shows_instructions_and_never_milliseconds() -> None:
    note = "not counted: it does not run coreml bundles"
    rows = (
        BenchRow(bundle="d/onnx", target="onnx", runtime=reports.ON_DEVICE, instructions=reports.instructions()),
        BenchRow(bundle="d/coreml", target="coreml", runtime=reports.DEVICE, note=note),
    )
    text = _printed(bench.show(BENCH, BenchResult(device=reports.DEVICE, rows=rows)))
    assert f"instructions per inference on {reports.DEVICE}" in text
    (ratio,) = [line for line in text.splitlines() if "ratio (spread)" in line]
    assert ratio.index("1.91x (1.00 %)") < ratio.index("not run")
    assert "116.7 M" in text and "61.2 M" in text
    assert "MlasGemmS8S8KernelSDot" in text and "65.4 %" in text
    assert f"d/coreml: {note}" in text
    assert " ms" not in text and "latency" not in text


def test_bench_here_shows_times_and_no_instructions() -> None:
    row = BenchRow(bundle="d/onnx", target="onnx", runtime="onnxruntime 1.31.1", latency=reports.latency())
    text = _printed(bench.show(BENCH, BenchResult(device="local", rows=(row,))))
    assert "latency on local" in text and "8.00 ms" in text and "nstructions" not in text


def test_eval_says_how_close_a_device_is_to_this_host() -> None:
    found = reports.on_device()
    there = Evaluation(
        bundle="d/onnx", target="onnx", device=reports.DEVICE, accuracy=found.accuracy, local=found.local
    )
    text = _printed(evaluate.show(EVALUATE, there))
    assert reports.ON_DEVICE in text and "agreement with onnxruntime-cpu here" in text and "99.50 % (41.2 dB)" in text
    here = Evaluation(bundle="d/onnx", target="onnx", accuracy=reports.accuracy(), images=reports.evaluation())
    text = _printed(evaluate.show(EVALUATE, here))
    assert " here " not in text and "Evaluated on 1000 images of photos (sha256 efefefefefef)" in text
