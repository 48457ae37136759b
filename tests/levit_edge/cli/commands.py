"""A pipeline that answers at once, and what the tests of the command line share."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from levit_edge.gates.absolute import at_most
from levit_edge.pipeline.diverge import Difference, Divergence, LayerRow
from levit_edge.report.answers import (
    BenchResult,
    BenchRow,
    Evaluation,
    Inspection,
    LabelScore,
    OperatorRow,
    Prediction,
)
from tests.levit_edge.report import reports
from tests.places import ROOT

VERBS = ("build", "eval", "bench", "gate", "inspect", "predict", "doctor")
Captured = pytest.CaptureFixture[str]


@dataclasses.dataclass(frozen=True)
class FakeOptions:
    """The fields of the pipeline's options, checked against it in a test below."""

    model: Any = None
    targets: tuple[str, ...] = ()
    calibration: Path | None = None
    eval_data: Path | None = None
    recipe: str = ""
    samples: int = 0
    seed: int = -1
    out: Path = Path()
    random_weights: bool = False
    skip_bad_images: bool = False
    thresholds: Path | None = None
    threads: int = 0
    runs: int = 0
    limit: int | None = None
    labels: Path | None = None
    device: str = ""


def divergence(departs: str) -> Divergence:
    """Two layers, of which the second may depart."""
    close = Difference(sqnr_db=61.5, max_steps=1.0, mean_steps=0.01, differing_share=0.01)
    rows = tuple(
        LayerRow(
            index=index, kind=kind, name=name, shape=(1, 10), stored=True, program=close, local=close,
            float_sqnr_db=28.25, departs=departs if index else "",
        )
        for index, (kind, name) in enumerate((("conv", "stem.0"), ("linear", "head")))
    )  # fmt: skip
    return Divergence(
        bundle="dist/onnx", target="onnx", image="a.jpg", runtime="onnxruntime-cpu", executed=True, undisturbed=True,
        first=1 if departs else None, layers=rows,
    )  # fmt: skip


class Pipeline(types.ModuleType):
    """A pipeline that answers at once, writes where it must not, and keeps what it was asked."""

    BuildOptions = FakeOptions

    def __init__(self) -> None:
        super().__init__("levit_edge.pipeline")
        self.calls: list[Any] = []
        self.failure: BaseException | None = None
        self.passed = True

    def _asked(self, *question: Any) -> None:
        self.calls.append(question)
        sys.stdout.write("chatter from Python\n")
        os.write(1, b"chatter from native code\n")
        if self.failure is not None:
            raise self.failure

    def build(self, options: FakeOptions, progress: Any) -> Any:  # noqa: ARG002
        self._asked(options)
        gates = (at_most("top1_drop_pp", 0.3 if self.passed else 0.9, 0.5, "onnxruntime, executed"),)
        return reports.report(onnx=reports.target(gates=gates))

    def evaluate(self, bundle: Path, *, data: Any, limit: int | None, device: str, progress: Any) -> Evaluation:  # noqa: ARG002
        self._asked(bundle, data, limit, device)
        gates = (at_most("top1_drop_pp", 0.3 if self.passed else 0.9, 0.5),)
        return Evaluation(bundle=str(bundle), target="onnx", accuracy=reports.accuracy(), gates=gates)

    def bench(
        self,
        bundles: Sequence[Path],
        *,
        device: str,
        threads: int,
        runs: int | None,
        progress: Any,  # noqa: ARG002
    ) -> BenchResult:
        self._asked(tuple(bundles), device, threads, runs)
        rows = (
            BenchRow(bundle="dist/onnx", target="onnx", runtime="onnxruntime 1.31.1", latency=reports.latency()),
            BenchRow(bundle="dist/coreml", target="coreml", runtime="Core ML", note="runs on macOS only"),
        )
        return BenchResult(device=device, rows=rows)

    def inspect(self, bundle: Path) -> Inspection:
        self._asked(bundle)
        operators = (OperatorRow(name="QGemm", precision="int8", placement="runtime", count=67),)
        return Inspection(
            bundle=str(bundle), target="onnx", model_file="model.onnx", size_bytes=8_800_000,
            int8_ops=67, float_ops=0, fallback_ops=0, operators=operators,
        )  # fmt: skip

    def diverge(self, bundle: Path, image: Path) -> Divergence:
        self._asked(bundle, image)
        return divergence("" if self.passed else "a value is 9.0 steps off")

    def predict(self, bundle: Path, images: Sequence[Path]) -> tuple[Prediction, ...]:
        self._asked(bundle, tuple(images))
        top = (LabelScore(label="[red] fox", probability_pct=81.25), LabelScore(label="größer", probability_pct=18.75))
        return tuple(Prediction(image=str(i), runtime="simulation", executed=False, top=top) for i in images)


def shell(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "levit_edge", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ | environment, timeout=300
    )


def one_line(error: str) -> str:
    """The single line on standard error, once the progress and log lines are gone."""
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if line.startswith(("levit-edge: error", "levit-edge: interrupted"))]
    assert len(lines) == 1 and error.splitlines()[-1] == lines[0], error
    return lines[0]
