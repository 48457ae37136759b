"""The GitHub action: its steps run as they are written, on real reports."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from levit_edge.pipeline.options import BuildOptions, GateOptions, options_of
from tests.ci.runner import ACTION, Build, Result, Runner
from tests.levit_edge.report import reports
from tests.places import ROOT

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")

CHECK, INSTALL, BUILD, GATE, UPLOAD = (step["name"] for step in ACTION["runs"]["steps"])
RESULTS = ["gates.md", "gates.xml", "report.json"]

PASSING = reports.report(onnx=reports.target())
FAILING = reports.report(onnx=reports.target(accuracy=reports.accuracy(agreement_pct=50.0)))
UNDECIDED = reports.report(onnx=reports.target(accuracy=None))

# What a shell would run, split, expand or take for an option.
HOSTILE = "-a b'c\"d;touch ran;$(touch ran)`touch ran` * $HOME \\ & | > ran"


def write(report: reports.Report, folder: Path) -> Path:
    path = folder / "given.json"
    path.write_text(report.to_json(), encoding="utf-8")
    return path


def gate(report: reports.Report, folder: Path, **inputs: str) -> Result:
    return Runner(folder).run(report=str(write(report, folder)), **inputs)


def stopping(folder: Path) -> Build:
    """A build after which no gate runs."""
    return Build(write(PASSING, folder), code=2)


def errors(log: str) -> list[str]:
    return re.findall(r"^::error title=levit-edge::(.+)$", log, re.MULTILINE)


def flags(record: type) -> set[str]:
    return {option.flag or f"--{name.replace('_', '-')}" for name, option in options_of(record).items()}


def test_a_report_that_passes_is_green_and_shown(tmp_path: Path) -> None:
    write(PASSING, tmp_path).rename(tmp_path / "report.json")
    result = Runner(tmp_path).run(report=str(tmp_path))
    assert (result.code, errors(result.log), result.ran) == (0, [], [CHECK, INSTALL, GATE, UPLOAD])
    assert result.outputs["verdict"] == "passed" and "::warning" not in result.log
    assert result.outputs["report"] == str(tmp_path / "report.json")
    assert {suite.get("name") for suite in ET.parse(result.outputs["junit"]).getroot()} == {"onnx"}
    assert result.uploaded == RESULTS and (result.upload or {})["name"] == "levit-edge"
    page = Path(result.outputs["junit"]).with_suffix(".md").read_text(encoding="utf-8")
    assert result.summary == page and "top1_drop_pp" in page
    assert "<details>" not in result.log


def test_a_gate_that_fails_is_red_and_shown(tmp_path: Path) -> None:
    result = gate(FAILING, tmp_path)
    assert (result.code, result.outputs["verdict"], result.uploaded) == (1, "failed", RESULTS)
    assert len(errors(result.log)) == 1 and "failed" in errors(result.log)[0]
    row = re.compile(r"^\| onnx \| agreement_pct \| 50 .*\| failed \|", re.MULTILINE)
    assert row.search(result.summary) and row.search(result.log)
    junit = ET.parse(result.outputs["junit"]).getroot()
    assert [case.get("name") for case in junit.iter("testcase") if case.find("failure") is not None] == [
        "agreement_pct"
    ]


@pytest.mark.parametrize(("policy", "code"), [("fail", 1), ("warn", 0)])
def test_what_an_undecided_gate_counts_as_is_an_input(policy: str, code: int, tmp_path: Path) -> None:
    result = gate(UNDECIDED, tmp_path, undecided=policy)
    assert (result.code, result.outputs["verdict"]) == (code, "undecided")
    assert ("::warning title=levit-edge::the verdict is undecided" in result.log) is (code == 0)
    assert len(errors(result.log)) == code


def test_a_report_that_is_not_there_has_no_verdict(tmp_path: Path) -> None:
    result = Runner(tmp_path).run(report="nowhere/report.json")
    assert (result.code, result.outputs["verdict"], result.outputs["junit"]) == (2, "", "")
    assert "nowhere/report.json does not exist" in result.log and "exit code 2" in errors(result.log)[0]
    assert "no verdict" in result.summary and result.uploaded == []


def test_a_summary_over_the_limit_is_cut_between_lines_and_says_so(tmp_path: Path) -> None:
    devices = {f"board {index} {'x' * 1000}": reports.on_device() for index in range(1200)}
    result = gate(reports.report(onnx=reports.target(devices=devices)), tmp_path)
    page = Path(result.outputs["junit"]).with_suffix(".md").read_text(encoding="utf-8")
    assert len(page.encode()) > 1024 * 1024 > len(result.summary.encode())
    note, _, rest = result.summary.partition("\n\n")
    assert note.startswith("This summary is cut") and page.startswith(rest)
    assert page[len(rest) - 1] == "\n" and len(rest) > 900_000


def test_every_input_is_passed_on_as_data(tmp_path: Path) -> None:
    """And every option of ``build`` and ``gate`` is an input, but for those that the action sets or has no use for."""
    runner = Runner(tmp_path, Build(write(PASSING, tmp_path)))
    (runner.workspace / "what a star would find").touch()
    words = {"targets": "onnx, *\ncoreml", "accept_difference": "host,$(ran)", "out": "my out;touch ran"}
    own = {"report", "demo", "python", "torch-index", "hub", "artifact"}
    switches = {"random_weights": "true", "skip_bad_images": "true"}
    plain = {name.replace("-", "_") for name in ACTION["inputs"].keys() - own} - words.keys() - switches.keys()
    result = runner.run(**dict.fromkeys(plain, HOSTILE), **words, **switches, artifact=HOSTILE)
    assert not list(tmp_path.rglob("ran")) and (result.upload or {})["name"] == HOSTILE
    build, gates = result.calls
    shared = {f"--gates={HOSTILE}", f"--undecided={HOSTILE}"}
    values = {f"--{name.replace('_', '-')}={HOSTILE}" for name in plain - {"baseline"}}
    targets = {"--target=onnx", "--target=*", "--target=coreml"}
    expected = values | targets | {"--random-weights", "--skip-bad-images", "--out=my out;touch ran"}
    assert set(build[1:]) == expected and len(build) == len(expected) + 1
    assert {argument.partition("=")[0] for argument in build[1:]} == flags(BuildOptions)
    assert gates[-2:] == ["--", "my out;touch ran/report.json"]
    assert shared | {f"--baseline={HOSTILE}", "--accept-difference=host", "--accept-difference=$(ran)"} <= set(gates)
    assert {argument.partition("=")[0] for argument in gates[2:-2]} == flags(GateOptions) - {"--report", "--init"}
    assert result.code == 2  # there is no gates file of that name


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({}, "an input is missing: give report (of an earlier build), model (to build), or demo: true"),
        ({"model": "m", "report": "r"}, "give only one of report, model and demo"),
        ({"model": "m", "demo": "true"}, "give only one of report, model and demo"),
        ({"demo": "yes"}, "input demo must be true or false"),
        ({"model": "m", "hub": "1"}, "input hub must be true or false"),
        ({"model": "m", "skip_bad_images": ""}, "input skip-bad-images must be true or false"),
        (
            {"report": "r", "samples": "32", "out": "o"},
            "report names an earlier build, so remove what only a build uses: --samples --out",
        ),
        ({"report": "a\nverdict=passed"}, "report and out must be one line each"),
        ({"model": "m", "out": "a\rb"}, "report and out must be one line each"),
        (
            {"model": "m", "out": ".."},
            "out holds a report already, which could be mistaken for that of this build; name another folder",
        ),
    ],
)
def test_wrong_inputs_are_one_line_and_stop_everything(inputs: dict[str, str], reason: str, tmp_path: Path) -> None:
    write(PASSING, tmp_path).rename(tmp_path / "report.json")
    result = Runner(tmp_path).run(**inputs)
    assert (result.code, result.log, result.ran) == (2, f"::error title=levit-edge::{reason}\n", [CHECK])
    assert result.outputs == {"verdict": "", "report": "", "junit": ""}


@pytest.mark.parametrize(
    ("code", "verdict", "report", "ends"),
    [(0, "passed", PASSING, 0), (1, "failed", FAILING, 1), (1, "passed", PASSING, 1)],
)
def test_a_build_whose_gates_fail_is_still_shown(
    code: int, verdict: str, report: Any, ends: int, tmp_path: Path
) -> None:
    """Also where the gates of its report do not fail: the build is then believed."""
    result = Runner(tmp_path, Build(write(report, tmp_path), code)).run(demo="true", targets="onnx")
    assert result.calls[0] == ["build", "--target=onnx", "--out=dist"]
    assert result.ran == [CHECK, INSTALL, BUILD, GATE, UPLOAD]
    assert (result.code, result.outputs["verdict"], result.uploaded) == (ends, verdict, RESULTS)
    assert verdict in result.summary and result.outputs["report"] == "dist/report.json"
    assert len(errors(result.log)) == ends


@pytest.mark.parametrize("code", [2, 3, 4])
def test_a_build_that_does_not_end_stops_with_its_code(code: int, tmp_path: Path) -> None:
    result = Runner(tmp_path, Build(write(PASSING, tmp_path), code)).run(model="m")
    assert (result.code, result.ran, result.uploaded) == (code, [CHECK, INSTALL, BUILD, UPLOAD], [])
    assert [call[0] for call in result.calls] == ["build"]
    assert f"exit code {code}" in errors(result.log)[0] and result.outputs["verdict"] == ""


def test_no_artifact_no_upload(tmp_path: Path) -> None:
    assert Runner(tmp_path, stopping(tmp_path)).run(model="m", artifact="").ran == [CHECK, INSTALL, BUILD]


@pytest.mark.parametrize(
    ("inputs", "options", "extra"),
    [
        ({}, ["--extra-index-url=https://download.pytorch.org/whl/cpu"], ""),
        ({"torch_index": ""}, [], ""),
        ({"torch_index": "https://a/ b;c", "hub": "true"}, ["--extra-index-url=https://a/ b;c"], "[hub]"),
    ],
)
def test_pip_installs_the_checkout_of_the_action(
    inputs: dict[str, str], options: list[str], extra: str, tmp_path: Path
) -> None:
    runner = Runner(tmp_path, stopping(tmp_path))
    result = runner.run(model="m", **inputs)
    assert result.pip == ["-m", "pip", "install", "--disable-pip-version-check", *options, f"{ROOT}{extra}"]
    # Later steps find levit-edge, and not the interpreter of its environment.
    assert [path.name for path in (runner.temp / "levit-edge" / "bin").iterdir()] == ["levit-edge"]


def test_an_installation_that_fails_ends_with_code_3(tmp_path: Path) -> None:
    result = Runner(tmp_path, pip_code=1).run(report="nowhere")
    assert (result.code, errors(result.log)) == (3, ["pip did not install levit-edge"])
    assert result.ran == [CHECK, INSTALL, UPLOAD] and result.calls == []


def test_a_python_that_is_not_there_ends_with_code_3(tmp_path: Path) -> None:
    result = Runner(tmp_path).run(report="nowhere", python="python3.2")
    assert (result.code, result.ran) == (3, [CHECK, INSTALL, UPLOAD])
    assert errors(result.log) == ["input python makes no virtual environment; actions/setup-python can"]


@pytest.mark.slow
def test_the_demo_goes_through_every_step(tmp_path: Path) -> None:
    """A real build with few images, whose gates cannot all be decided."""
    inputs = {"targets": "onnx", "samples": "32", "limit": "50", "runs": "3", "undecided": "warn", "out": "a b"}
    runner = Runner(tmp_path)
    gates = runner.workspace / "gates.toml"
    gates.write_text('schema_version = 1\n[limits]\nmin_speedup = "off"\n', encoding="utf-8")
    result = runner.run(demo="true", gates=gates.name, **inputs)
    assert (result.code, result.uploaded, errors(result.log)) == (0, RESULTS, [])
    assert (runner.workspace / "a b" / "onnx" / "model.onnx").is_file()


def test_no_script_holds_an_expression() -> None:
    """GitHub would paste its value into the script before bash reads it."""
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", ""), step["name"]


def test_the_defaults_are_text_and_every_input_is_used() -> None:
    steps = str(ACTION["runs"]["steps"])
    for name, spec in ACTION["inputs"].items():
        assert isinstance(spec["default"], str) and f"inputs.{name} " in steps, name
