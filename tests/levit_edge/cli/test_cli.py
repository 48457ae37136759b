"""The command line as scripts see it: exit codes, one line per failure, one JSON document on standard output."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path

import pytest
from typer.testing import CliRunner

from levit_edge.cli import app as application
from levit_edge.cli import run
from levit_edge.cli.app import app
from levit_edge.errors import InputError, LevitEdgeError, MissingComponentError
from levit_edge.pipeline.options import (
    BenchOptions,
    BuildOptions,
    DiffOptions,
    InspectOptions,
    PredictOptions,
    options_of,
)
from targets.registry import TARGETS
from tests.levit_edge.cli.commands import VERBS, Captured, Pipeline, one_line


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    fake = Pipeline()
    fake.plug_in(monkeypatch)
    return fake


ASKING = {
    "build": ["build"],
    "eval": ["eval", "dist/onnx"],
    "bench": ["bench", "dist/onnx", "dist/coreml"],
    "diff": ["diff", "release", "dist"],
    "inspect": ["inspect", "dist/onnx"],
    "inspect --diverge": ["inspect", "dist/onnx", "--diverge", "a.jpg"],
    "predict": ["predict", "dist/onnx", "a.jpg", "b.jpg"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example_on_a_line_of_its_own(verb: str) -> None:
    result = CliRunner().invoke(app, [verb, "--help"])
    assert result.exit_code == 0
    assert any(line.strip().startswith(f"levit-edge {verb}") for line in result.stdout.splitlines())
    assert "--json" in result.stdout


def test_the_help_of_a_group_has_an_example_too() -> None:
    result = CliRunner().invoke(app, ["device", "--help"])
    assert result.exit_code == 0
    assert "levit-edge device add qemu-arm64" in [line.strip() for line in result.stdout.splitlines()]


def test_the_help_says_when_inspect_fails() -> None:
    words = " ".join(CliRunner().invoke(app, ["--help"]).stdout.split())
    assert "1 a gate failed or inspect --diverge found a layer that departs, 2 bad input" in words


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
        "--recipe r.toml --samples 8 --seed 3 --out o --skip-bad-images --gates t --undecided warn --threads 1 "
        "--runs 5 --limit 9 --labels l --device qemu-arm64"
    )
    assert run(line.split()) == 0
    assert pipeline.calls == [
        BuildOptions(
            model="levit-128S", targets=("executorch", "onnx"), calibration=Path("c"), eval_data=Path("e"),
            recipe="r.toml", samples=8, seed=3, out=Path("o"), random_weights=True, skip_bad_images=True,
            gates=Path("t"), undecided="warn", threads=1, runs=5, limit=9, labels=Path("l"), device="qemu-arm64",
        )
    ]  # fmt: skip


def test_without_options_a_build_is_the_default_one(pipeline: Pipeline, capfd: Captured) -> None:
    assert run(["build"]) == 0
    assert pipeline.calls == [BuildOptions()]


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_shows_every_option_of_the_record(verb: str) -> None:
    """Python and the command line share one declaration, so a field cannot be missing on one side."""
    record = next(row for row in application.VERBS if row.name == verb).options
    page = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"}).stdout
    for name, option in options_of(record).items():
        words = option.metavar if option.argument else option.flag or f"--{name.replace('_', '-')}"
        assert words is not None and words in page, name


@pytest.mark.parametrize("choice", [[], ["--target", "all"], ["--target", "onnx", "--target", "all"]])
def test_all_targets_are_the_default(choice: list[str], pipeline: Pipeline, capfd: Captured) -> None:
    run(["build", *choice])
    assert pipeline.calls[0].targets == tuple(TARGETS)


@pytest.mark.parametrize("verb", ["build", "eval"])
def test_a_failed_gate_is_exit_code_1_and_the_answer_stays(verb: str, pipeline: Pipeline, capfd: Captured) -> None:
    pipeline.passed = False
    assert run([*ASKING[verb], "--json"]) == 1
    assert "top1_drop_pp" in capfd.readouterr().out


def test_build_names_the_failed_gates_and_the_files(pipeline: Pipeline, capfd: Captured) -> None:
    pipeline.passed = False
    assert run(["build", "--out", "o"]) == 1
    out = capfd.readouterr().out
    assert "failed: onnx: top1_drop_pp is 0.9, limit 0.5 (onnxruntime, executed)" in out
    assert f"{Path('o/onnx/model.onnx')}" in out and f"{Path('o/report.md')}" in out


@pytest.mark.parametrize(
    ("departs", "code", "last"),
    [
        (False, 0, "no layer departs from the quantized program: 2 compared"),
        (True, 1, "departs first: layer 1, head (linear): a value is 9.0 steps off"),
    ],
)
def test_inspect_names_the_layer_that_departs(
    departs: bool, code: int, last: str, pipeline: Pipeline, capfd: Captured
) -> None:
    pipeline.passed = not departs
    assert run(["inspect", "dist/onnx", "--diverge", "a.jpg"]) == code
    assert pipeline.calls == [InspectOptions(Path("dist/onnx"), diverge=Path("a.jpg"))]
    out = capfd.readouterr().out
    assert out.splitlines()[-1] == last and "stem.0" in out and "61.5 dB" in out and "28.2 dB" in out


def test_diff_is_exit_code_0_when_the_builds_differ(pipeline: Pipeline, capfd: Captured) -> None:
    assert run(["diff", "release", "dist", "--markdown", "d.md"]) == 0
    assert pipeline.calls == [DiffOptions(Path("release"), Path("dist"), markdown=Path("d.md"))]
    out = capfd.readouterr().out
    assert out.splitlines()[0] == "other weights" and "model.sha256" in out


def test_bench_leaves_the_number_of_runs_to_the_device(pipeline: Pipeline, capfd: Captured) -> None:
    run(["bench", "dist/onnx", "--device", "qemu-arm64"])
    run(["bench", "dist/onnx", "--runs", "7"])
    onnx = (Path("dist/onnx"),)
    assert pipeline.calls == [BenchOptions(onnx, device="qemu-arm64"), BenchOptions(onnx, runs=7)]


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
    assert pipeline.calls == [PredictOptions(Path("dist/onnx"), images=(Path("--debug"),))]


USAGE = {
    "": "Missing command",
    "buid": "No such command 'buid'",
    "build --nope": "No such option: --nope",
    "build --samples 0": "'--samples'",
    "build --samples many": "'--samples'",
    "build --runs 0": "'--runs'",
    "build --limit 0": "'--limit'",
    "build --threads 0": "'--threads'",
    "bench dist/onnx --runs 0": "'--runs'",
    "build --threads 100000": "'--threads'",
    "build --target android": "unknown target 'android'; valid: executorch, coreml, onnx",
    "build --random-weights": "needs --model",
    "eval": "Missing argument",
    "bench": "Missing argument",
    "predict dist/onnx": "Missing argument",
    "gate": "Missing argument",
    "diff dist": "Missing argument 'B'",
}


@pytest.mark.parametrize("line", USAGE)
def test_wrong_usage_is_one_line_and_exit_code_2(line: str, pipeline: Pipeline, capfd: Captured) -> None:
    assert run(line.split()) == 2
    captured = capfd.readouterr()
    assert captured.out == "" and USAGE[line] in one_line(captured.err) and not pipeline.calls


def test_pillows_bomb_warning_is_an_error_during_a_verb(pipeline: Pipeline, capfd: Captured) -> None:
    from PIL import Image

    width = Image.MAX_IMAGE_PIXELS
    assert width is not None
    pipeline.before = lambda: Image._decompression_bomb_check((width + 1, 1))  # as Pillow itself does on opening
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run(["inspect", "b"]) == 4
    assert "DecompressionBombWarning" in capfd.readouterr().err


@pytest.mark.parametrize(("flags", "shown"), [([], False), (["-v"], True)])
def test_chatty_packages_are_heard_only_when_asked(
    flags: list[str], shown: bool, pipeline: Pipeline, capfd: Captured
) -> None:
    def chat() -> None:
        logging.getLogger("torchao").warning("Failed to load a library")
        logging.getLogger("levit_edge.bundle.publish").warning("a build was killed")

    pipeline.before = chat
    assert run([*flags, "inspect", "b"]) == 0
    error = capfd.readouterr().err
    assert "levit-edge: warning: a build was killed" in error
    assert ("Failed to load" in error) is shown
