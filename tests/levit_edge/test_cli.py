"""The command line as scripts see it: exit codes, one line per failure, one JSON document on standard output."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import subprocess
import sys
import types
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

from levit_edge import __version__
from levit_edge.cli import run
from levit_edge.cli.app import app
from levit_edge.cli.options import TargetName
from levit_edge.errors import InputError, LevitEdgeError, MissingComponentError
from levit_edge.gates import at_most
from levit_edge.native_output import hushed_stderr
from levit_edge.results import (
    BenchResult,
    BenchRow,
    Evaluation,
    Inspection,
    LabelScore,
    OperatorRow,
    Prediction,
)
from levit_edge.thresholds import TARGETS
from tests.levit_edge import reports

ROOT = Path(__file__).parents[2]
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

    def bench(self, bundles: Sequence[Path], *, device: str, threads: int, runs: int, progress: Any) -> BenchResult:  # noqa: ARG002
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

    def predict(self, bundle: Path, images: Sequence[Path]) -> tuple[Prediction, ...]:
        self._asked(bundle, tuple(images))
        top = (LabelScore(label="[red] fox", probability_pct=81.25), LabelScore(label="größer", probability_pct=18.75))
        return tuple(Prediction(image=str(i), runtime="simulation", executed=False, top=top) for i in images)


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    fake = Pipeline()
    monkeypatch.setitem(sys.modules, "levit_edge.pipeline", fake)
    monkeypatch.setattr("levit_edge.pipeline", fake, raising=False)
    return fake


@pytest.fixture
def report_file(tmp_path: Path) -> Path:
    path = tmp_path / "report.json"
    path.write_text(reports.report(onnx=reports.target()).to_json(), encoding="utf-8")
    return path


def shell(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "levit_edge", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ | environment, timeout=60
    )


def one_line(error: str) -> str:
    """The single line on standard error, once the progress and log lines are gone."""
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if line.startswith(("levit-edge: error", "levit-edge: interrupted"))]
    assert len(lines) == 1 and error.splitlines()[-1] == lines[0], error
    return lines[0]


ASKING = {
    "build": ["build"],
    "eval": ["eval", "dist/onnx"],
    "bench": ["bench", "dist/onnx", "dist/coreml"],
    "inspect": ["inspect", "dist/onnx"],
    "predict": ["predict", "dist/onnx", "a.jpg", "b.jpg"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example_on_a_line_of_its_own(verb: str) -> None:
    result = CliRunner().invoke(app, [verb, "--help"])
    assert result.exit_code == 0
    assert any(line.strip().startswith(f"levit-edge {verb}") for line in result.stdout.splitlines())
    assert "--json" in result.stdout


@pytest.mark.parametrize("verb", ASKING)
def test_json_is_the_only_thing_on_standard_output(verb: str, pipeline: Pipeline, capfd: Captured) -> None:
    assert run([*ASKING[verb], "--json"]) == 0
    captured = capfd.readouterr()
    assert isinstance(json.loads(captured.out), dict)
    assert "chatter" not in captured.out + captured.err


@pytest.mark.parametrize("verb", ASKING)
def test_text_is_for_people_and_free_of_chatter(verb: str, pipeline: Pipeline, capfd: Captured) -> None:
    assert run(ASKING[verb]) == 0
    captured = capfd.readouterr()
    assert len(captured.out.splitlines()) > 1 and "chatter" not in captured.out + captured.err


def test_verbose_sends_the_chatter_to_standard_error(pipeline: Pipeline, capfd: Captured) -> None:
    assert run(["inspect", "dist/onnx", "--json", "-v"]) == 0
    captured = capfd.readouterr()
    assert json.loads(captured.out)["target"] == "onnx"
    assert "chatter from Python" in captured.err and "chatter from native code" in captured.err


def test_labels_are_shown_as_they_are(pipeline: Pipeline, capfd: Captured) -> None:
    run(["predict", "dist/onnx", "a.jpg"])
    out = capfd.readouterr().out
    assert "81.25 %  [red] fox" in out and "größer" in out and "simulated" in out


def test_build_passes_every_option_on(pipeline: Pipeline, capfd: Captured) -> None:
    line = (
        "build --model levit-128S --random-weights --target onnx --target executorch --calibration c --eval e "
        "--recipe r.toml --samples 8 --seed 3 --out o --skip-bad-images --thresholds t --threads 1 --runs 5 --limit 9 "
        "--labels l"
    )
    assert run(line.split()) == 0
    assert pipeline.calls == [
        (
            FakeOptions(
                model="levit-128S", targets=("executorch", "onnx"), calibration=Path("c"), eval_data=Path("e"),
                recipe="r.toml", samples=8, seed=3, out=Path("o"), random_weights=True, skip_bad_images=True,
                thresholds=Path("t"), threads=1, runs=5, limit=9, labels=Path("l"),
            ),
        )
    ]  # fmt: skip


@pytest.mark.parametrize("choice", [[], ["--target", "all"], ["--target", "onnx", "--target", "all"]])
def test_all_targets_are_the_default(choice: list[str], pipeline: Pipeline, capfd: Captured) -> None:
    run(["build", *choice])
    assert pipeline.calls[0][0].targets == TARGETS


def test_the_choice_of_targets_is_that_of_the_thresholds() -> None:
    assert tuple(TargetName) == (*TARGETS, "all")


def test_the_pipeline_takes_what_the_command_line_gives() -> None:
    from levit_edge.pipeline import BuildOptions

    assert {f.name for f in dataclasses.fields(FakeOptions)} <= {f.name for f in dataclasses.fields(BuildOptions)}


@pytest.mark.parametrize("verb", ["build", "eval"])
def test_a_failed_gate_is_exit_code_1_and_the_answer_stays(verb: str, pipeline: Pipeline, capfd: Captured) -> None:
    pipeline.passed = False
    assert run([*ASKING[verb], "--json"]) == 1
    assert "top1_drop_pp" in capfd.readouterr().out


def test_build_names_the_failed_gates_and_the_files(pipeline: Pipeline, capfd: Captured) -> None:
    pipeline.passed = False
    assert run(["build", "--out", "o"]) == 1
    out = capfd.readouterr().out
    assert "failed: onnx: top1_drop_pp is 0.900, limit 0.500 (onnxruntime, executed)" in out
    assert f"{Path('o/onnx/model.onnx')}" in out and f"{Path('o/report.md')}" in out


FAILURES: list[tuple[BaseException, int, str]] = [
    (InputError("x.jpg: damaged\nand long"), 2, "levit-edge: error: x.jpg: damaged and long"),
    (MissingComponentError("adb", "apt-get install adb"), 3, "install it with: apt-get install adb"),
    (LevitEdgeError("NaN logits"), 4, "levit-edge: error: NaN logits"),
    (ZeroDivisionError("oops"), 4, "levit-edge: error: internal error, ZeroDivisionError: oops"),
    (EOFError(), 4, "internal error, EOFError"),
    (BrokenPipeError("adb left"), 4, "a program that levit-edge talked to has ended: adb left"),
    (KeyboardInterrupt(), 130, "levit-edge: interrupted"),
]


@pytest.mark.parametrize(("failure", "code", "line"), FAILURES, ids=lambda value: type(value).__name__)
def test_each_failure_is_one_line_and_its_code(
    failure: BaseException, code: int, line: str, pipeline: Pipeline, capfd: Captured
) -> None:
    pipeline.failure = failure
    assert run(["inspect", "dist/onnx", "--json"]) == code
    captured = capfd.readouterr()
    assert captured.out == "" and line in one_line(captured.err)


def test_debug_shows_the_traceback_wherever_it_stands(pipeline: Pipeline, capfd: Captured) -> None:
    pipeline.failure = ZeroDivisionError("oops")
    for arguments in (["--debug", "inspect", "b"], ["inspect", "b", "--debug"]):
        assert run(arguments) == 4
        assert "Traceback" in capfd.readouterr().err


def test_after_two_dashes_nothing_is_an_option(pipeline: Pipeline, capfd: Captured) -> None:
    assert run(["predict", "dist/onnx", "--", "--debug"]) == 0
    assert pipeline.calls == [(Path("dist/onnx"), (Path("--debug"),))]


USAGE = {
    "": "Missing command",
    "buid": "No such command 'buid'",
    "build --nope": "No such option: --nope",
    "build --samples 0": "'--samples'",
    "build --samples many": "'--samples'",
    "build --runs 0": "'--runs'",
    "build --limit 0": "'--limit'",
    "build --threads 0": "'--threads'",
    "build --threads 100000": "'--threads'",
    "build --target android": "'executorch', 'coreml', 'onnx', 'all'",
    "build --random-weights": "needs --model",
    "eval": "Missing argument",
    "bench": "Missing argument",
    "predict dist/onnx": "Missing argument",
    "gate": "Missing argument",
}


@pytest.mark.parametrize("line", USAGE)
def test_wrong_usage_is_one_line_and_exit_code_2(line: str, pipeline: Pipeline, capfd: Captured) -> None:
    assert run(line.split()) == 2
    captured = capfd.readouterr()
    assert captured.out == "" and USAGE[line] in one_line(captured.err) and not pipeline.calls


def test_pillows_bomb_warning_is_an_error_during_a_verb(pipeline: Pipeline, capfd: Captured) -> None:
    from PIL import Image

    def warn(bundle: Path) -> None:
        warnings.warn("huge", Image.DecompressionBombWarning, stacklevel=1)

    pipeline.inspect = warn  # type: ignore[method-assign,assignment]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run(["inspect", "b"]) == 4
    assert "DecompressionBombWarning" in capfd.readouterr().err


@pytest.mark.parametrize(("flags", "shown"), [([], False), (["-v"], True)])
def test_chatty_packages_are_heard_only_when_asked(
    flags: list[str], shown: bool, pipeline: Pipeline, capfd: Captured
) -> None:
    def chat(bundle: Path) -> Inspection:
        logging.getLogger("torchao").warning("Failed to load a library")
        logging.getLogger("levit_edge.staging").warning("a build was killed")
        return Pipeline().inspect(bundle)

    pipeline.inspect = chat  # type: ignore[method-assign]
    assert run([*flags, "inspect", "b"]) == 0
    error = capfd.readouterr().err
    assert "levit-edge: warning: a build was killed" in error
    assert ("Failed to load" in error) is shown


def test_known_native_noise_is_held_back_and_the_rest_is_not(capfd: Captured) -> None:
    with hushed_stderr():
        os.write(2, b"[cpuinfo_utils.cpp:71] Reading file\n[threadpool.cpp:66] Resetting threadpool to 1 threads.\n")
        os.write(2, b"[program.cpp:168] Program identifier is wrong\n")
    assert capfd.readouterr().err == "[program.cpp:168] Program identifier is wrong\n"


def test_gate_passes_a_good_report(report_file: Path, capfd: Captured) -> None:
    assert run(["gate", str(report_file)]) == 0
    assert "4 passed, 0 failed, 0 skipped" in capfd.readouterr().out


def test_gate_ignores_the_gates_in_the_report(tmp_path: Path, capfd: Captured) -> None:
    path = tmp_path / "report.json"
    bad = reports.target(accuracy=reports.accuracy(agreement_pct=50.0), gates=(at_most("agreement_pct", 0, 1),))
    path.write_text(reports.report(onnx=bad).to_json(), encoding="utf-8")
    assert run(["gate", str(path), "--json"]) == 1
    check = json.loads(capfd.readouterr().out)
    assert check["passed"] is False
    assert [gate["name"] for gate in check["targets"]["onnx"] if gate["passed"] is False] == ["agreement_pct"]


def test_gate_takes_other_limits(report_file: Path, tmp_path: Path, capfd: Captured) -> None:
    limits = tmp_path / "limits.toml"
    limits.write_text("[onnx]\nmin_speedup = 3.0\n")
    assert run(["gate", str(report_file), "--thresholds", str(limits)]) == 1
    assert "speedup" in capfd.readouterr().out


def test_gate_compares_with_a_baseline_and_writes_junit(report_file: Path, tmp_path: Path, capfd: Captured) -> None:
    baseline, junit = tmp_path / "before.json", tmp_path / "gates.xml"
    before = reports.report(onnx=reports.target(size_bytes=7_000_000), coreml=reports.target(bundle="coreml"))
    baseline.write_text(before.to_json(), encoding="utf-8")
    assert run(["gate", str(report_file), "--baseline", str(baseline), "--junit", str(junit), "--json"]) == 1
    check = json.loads(capfd.readouterr().out)
    failed = [gate["name"] for gates in check["targets"].values() for gate in gates if gate["passed"] is False]
    assert sorted(failed) == ["baseline_size_bytes", "baseline_target_present"]
    assert sum(int(suite.attrib["failures"]) for suite in ET.parse(junit).getroot()) == 2


def test_gate_refuses_a_report_without_figures(tmp_path: Path, capfd: Captured) -> None:
    path = tmp_path / "report.json"
    path.write_text(reports.report(onnx=reports.target(accuracy=None, latency=None)).to_json(), encoding="utf-8")
    assert run(["gate", str(path)]) == 2
    captured = capfd.readouterr()
    assert captured.out == "" and "no accuracy and no latency" in one_line(captured.err)


@pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": 9}'])
def test_gate_refuses_what_is_no_report(text: str, tmp_path: Path, capfd: Captured) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    assert run(["gate", str(path)]) == 2
    captured = capfd.readouterr()
    assert captured.out == "" and str(path) in one_line(captured.err)


def test_in_a_shell_a_failure_is_one_line_and_nothing_else() -> None:
    result = shell("inspect", "nowhere", "--json")
    assert (result.returncode, result.stdout) == (2, "")
    assert (
        result.stderr == "levit-edge: error: nowhere does not exist; name the folder of a bundle, such as dist/onnx\n"
    )


def test_in_a_shell_the_version_and_the_help_come_without_torch() -> None:
    assert shell("--version").stdout == f"levit-edge {__version__}\n"
    result = shell("--help", PYTHONPROFILEIMPORTTIME="1")
    assert result.returncode == 0
    heavy = ("torch", "numpy", "onnx", "PIL", "executorch", "coremltools")
    assert not [line for line in result.stderr.splitlines() if line.split("|")[-1].strip() in heavy]


def test_in_a_shell_doctor_speaks_utf_8_json_in_any_locale() -> None:
    result = shell("doctor", "--json", PYTHONIOENCODING="ascii")
    assert result.returncode == 0 and result.stderr == ""
    assert json.loads(result.stdout)["levit_edge"] == __version__


@pytest.mark.parametrize("verb", ["doctor", "--help"])
def test_in_a_shell_a_reader_that_left_is_no_traceback(verb: str) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "levit_edge", verb]
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT, timeout=60)
    os.close(write)
    assert result.stderr == "" and result.returncode == (0 if verb == "doctor" else 141)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_in_a_shell_a_full_disk_behind_standard_output_is_one_line() -> None:
    command = [sys.executable, "-m", "levit_edge", "doctor"]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    assert result.returncode == 2 and "standard output: no space left" in one_line(result.stderr)
