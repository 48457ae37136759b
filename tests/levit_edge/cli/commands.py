"""A pipeline that answers at once, and what the tests of the command line share."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from levit_edge.gates.gate import at_most
from levit_edge.pipeline.options import (
    BenchOptions,
    BuildOptions,
    DiffOptions,
    EvaluateOptions,
    InspectOptions,
    PredictOptions,
)
from levit_edge.progress import Progress
from levit_edge.report.answers import (
    BenchResult,
    BenchRow,
    Evaluation,
    Inspection,
    LabelScore,
    OperatorRow,
    Prediction,
    Predictions,
)
from levit_edge.report.difference import BuildDifference, Change
from levit_edge.report.divergence import Difference, Divergence, LayerRow
from levit_edge.report.schema import Report
from tests.levit_edge.report import reports
from tests.places import ROOT

VERBS = ("build", "eval", "bench", "gate", "diff", "inspect", "predict", "doctor")
Captured = pytest.CaptureFixture[str]


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


class Pipeline:
    """Verbs that answer at once, write where they must not, and keep what they were asked."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.failure: BaseException | None = None
        self.passed = True
        self.before: Callable[[], object] = lambda: None

    def plug_in(self, patch: pytest.MonkeyPatch) -> None:
        """Take the place of the modules that do the work; none of them is imported."""
        for verb in ("build", "evaluate", "bench", "diff", "inspect", "predict"):
            module = types.ModuleType(f"levit_edge.pipeline.{verb}")
            setattr(module, verb, getattr(self, verb))
            patch.setitem(sys.modules, module.__name__, module)

    def _asked(self, options: Any) -> None:
        self.calls.append(options)
        sys.stdout.write("chatter from Python\n")
        os.write(1, b"chatter from native code\n")
        self.before()
        if self.failure is not None:
            raise self.failure

    def build(self, options: BuildOptions, progress: Progress) -> Report:  # noqa: ARG002
        self._asked(options)
        gates = (at_most("top1_drop_pp", 0.3 if self.passed else 0.9, 0.5, "onnxruntime, executed"),)
        return reports.report(onnx=reports.target(gates=gates))

    def evaluate(self, options: EvaluateOptions, progress: Progress) -> Evaluation:  # noqa: ARG002
        self._asked(options)
        gates = (at_most("top1_drop_pp", 0.3 if self.passed else 0.9, 0.5),)
        return Evaluation(bundle=str(options.bundle), target="onnx", accuracy=reports.accuracy(), gates=gates)

    def bench(self, options: BenchOptions, progress: Progress) -> BenchResult:  # noqa: ARG002
        self._asked(options)
        rows = (
            BenchRow(bundle="dist/onnx", target="onnx", runtime="onnxruntime 1.31.1", latency=reports.latency()),
            BenchRow(bundle="dist/coreml", target="coreml", runtime="Core ML", note="runs on macOS only"),
        )
        return BenchResult(device=options.device, rows=rows)

    def diff(self, options: DiffOptions, progress: Progress) -> BuildDifference:  # noqa: ARG002
        self._asked(options)
        changed = Change(field="model.sha256", kind="identity", before="ab" * 32, after="cd" * 32)
        return BuildDifference(
            before=str(options.before), after=str(options.after), differs=True, cause="other weights",
            changes=(changed,),
        )  # fmt: skip

    def inspect(self, options: InspectOptions, progress: Progress) -> Inspection | Divergence:  # noqa: ARG002
        self._asked(options)
        if options.diverge is not None:
            return divergence("" if self.passed else "a value is 9.0 steps off")
        operators = (OperatorRow(name="QGemm", precision="int8", placement="runtime", count=67),)
        return Inspection(
            bundle=str(options.bundle), target="onnx", model_file="model.onnx", size_bytes=8_800_000,
            int8_ops=67, float_ops=0, fallback_ops=None, operators=operators,
        )  # fmt: skip

    def predict(self, options: PredictOptions, progress: Progress) -> Predictions:  # noqa: ARG002
        self._asked(options)
        top = (LabelScore(label="[red] fox", probability_pct=81.25), LabelScore(label="größer", probability_pct=18.75))
        images = [Prediction(image=str(i), runtime="simulation", executed=False, top=top) for i in options.images]
        return Predictions(bundle=str(options.bundle), images=tuple(images))


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
