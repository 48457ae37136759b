"""The `gate` verb on real reports, and the command line as a shell runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from levit_edge import __version__
from levit_edge.cli import run
from levit_edge.cli.gate import show
from levit_edge.gates.gate import at_most
from levit_edge.metrics.program_match import ProgramMatch
from levit_edge.pipeline.gate import gate
from levit_edge.pipeline.options import GateOptions
from levit_edge.report.schema import Delegation, Report
from tests.levit_edge.cli.commands import ROOT, Captured, one_line, shell
from tests.levit_edge.report import reports


def _write(path: Path, report: Report) -> Path:
    path.write_text(report.to_json(), encoding="utf-8")
    return path


def _report(**changes: Any) -> Report:
    return reports.report(onnx=reports.target(**({"accuracy": reports.answers()} | changes))).model_copy(
        update={"evaluation": reports.evaluation()}
    )


@pytest.fixture
def report_file(tmp_path: Path) -> Path:
    return _write(tmp_path / "report.json", _report())


def _outcomes(output: str) -> dict[str, str]:
    return {gate["name"]: gate["outcome"] for gates in json.loads(output)["targets"].values() for gate in gates}


def test_gate_passes_a_good_report(report_file: Path, capfd: Captured) -> None:
    assert run(["gate", str(report_file)]) == 0
    assert "5 passed, 0 failed, 0 undecided, 0 not applicable" in capfd.readouterr().out


def test_gate_fits_a_terminal_of_80_columns(report_file: Path) -> None:
    options, console = GateOptions(report_file, baseline=report_file), Console(width=80, file=StringIO())
    for part in show(options, gate(options)):
        console.print(part)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "baseline_agreement_drop_pp" in text and "│ passed" in text  # neither is folded


def test_gate_ignores_the_gates_in_the_report(tmp_path: Path, capfd: Captured) -> None:
    bad = _report(accuracy=reports.accuracy(agreement_pct=50.0), gates=(at_most("agreement_pct", 0, 1),))
    assert run(["gate", str(_write(tmp_path / "report.json", bad)), "--json"]) == 1
    output = capfd.readouterr().out
    assert (json.loads(output)["passed"], json.loads(output)["verdict"]) == (False, "failed")
    assert [name for name, outcome in _outcomes(output).items() if outcome == "failed"] == ["agreement_pct"]


def test_gate_takes_other_limits(report_file: Path, tmp_path: Path, capfd: Captured) -> None:
    limits = tmp_path / "gates.toml"
    limits.write_text("schema_version = 1\n[targets.onnx.limits]\nmin_speedup = 3.0\n")
    assert run(["gate", str(report_file), "--gates", str(limits)]) == 1
    assert "speedup" in capfd.readouterr().out


@pytest.mark.parametrize(
    "changes",
    [
        {"accuracy": None},
        {"accuracy": reports.few_images(16, 0, 0)},
        {"latency": None},
        {"program_match": None},
        {"accuracy": None, "latency": None},
    ],
)
def test_what_a_report_does_not_show_is_never_exit_code_0(
    changes: dict[str, Any], tmp_path: Path, capfd: Captured
) -> None:
    report = _report(**changes).model_copy(update={"evaluation": None})
    path = str(_write(tmp_path / "report.json", report))
    assert run(["gate", path, "--json"]) == 1
    assert set(_outcomes(capfd.readouterr().out).values()) == {"passed", "undecided"}
    assert run(["gate", path, "--undecided", "warn"]) == 0
    limits = tmp_path / "gates.toml"
    limits.write_text('schema_version = 1\nundecided = "warn"\n')
    assert run(["gate", path, "--gates", str(limits)]) == 0
    assert run(["gate", path, "--gates", str(limits), "--undecided", "fail"]) == 1
    assert run(["gate", path, "--undecided", "perhaps"]) == 2
    assert "valid: fail, warn" in one_line(capfd.readouterr().err)


def test_a_report_without_targets_shows_nothing(tmp_path: Path, capfd: Captured) -> None:
    assert run(["gate", str(_write(tmp_path / "report.json", reports.report())), "--undecided", "warn"]) == 1


def test_gate_compares_with_a_baseline_and_writes_junit_and_markdown(
    report_file: Path, tmp_path: Path, capfd: Captured
) -> None:
    junit, markdown = tmp_path / "gates.xml", tmp_path / "gates.md"
    before = _report(size_bytes=7_000_000)
    before = before.model_copy(update={"targets": before.targets | {"coreml": reports.target(bundle="coreml")}})
    baseline = _write(tmp_path / "before.json", before)
    words = ["gate", str(report_file), "--baseline", str(baseline), "--junit", str(junit), "--markdown", str(markdown)]
    assert run([*words, "--json"]) == 1
    tripped = {name for name, outcome in _outcomes(capfd.readouterr().out).items() if outcome == "failed"}
    assert tripped == {"baseline_size_bytes", "baseline_target_present"}
    cases = [case for case in ET.parse(junit).iter("testcase") if case.find("failure") is not None]
    assert {case.attrib["name"] for case in cases} == tripped
    text = markdown.read_text(encoding="utf-8")
    top = text[: text.index("<details>")]
    assert top.startswith("## levit-edge gates: failed\n") and all(name in top for name in tripped)
    assert "size_ratio" not in top  # what passed is folded away
    assert (
        "| figure | before | after |" in text
        and "| size, float to built | 31.00 to 7.00 MB | 31.00 to 8.80 MB |" in text
    )


DELEGATION = Delegation(delegates=1, int8_ops=98, float_ops=11, fallback_ops=0, operators={"Conv int8 delegate": 6})
EARLIER: dict[str, Any] = {"delegation": DELEGATION, "devices": reports.counted(reports.instructions()).devices}
KINDS = ("failure", "error")
SLOWER = reports.counted(reports.instructions(built=70_000_000)).devices
SPLIT = DELEGATION.model_copy(update={"delegates": 3, "fallback_ops": 2})
UNFUSED = DELEGATION.model_copy(update={"operators": {"Conv float delegate": 1, "Conv int8 delegate": 5}})


@pytest.mark.parametrize(
    ("target", "parts", "tripped"),
    [
        # The scales of one block times four: wrong answers, and nothing else.
        (
            {"accuracy": reports.answers(since=(60, 0))},
            {},
            {"top1_drop_pp", "agreement_pct", "baseline_top1_drop_pp", "baseline_agreement_drop_pp"},
        ),
        ({}, {"calibration": {"sha256": "11" * 32}}, {"baseline_calibration"}),
        ({"devices": SLOWER, "delegation": UNFUSED}, {}, {"baseline_device_instructions", "baseline_operator_changes"}),
        ({"size_bytes": 9_200_000, "size_ratio": 9.2 / 31}, {}, {"size_ratio", "baseline_size_bytes"}),
        ({"delegation": SPLIT}, {}, {"baseline_delegates", "baseline_fallback_ops"}),
        ({}, {"evaluation": {"sha256": "11" * 32}}, {"baseline_evaluation"}),
        (
            {"program_match": ProgramMatch(constants=300, layers=93, departures=("head: its bias",))},
            {},
            {"program_departures"},
        ),
    ],
)
def test_each_change_trips_its_own_gates_in_every_output(
    target: dict[str, Any], parts: dict[str, dict[str, Any]], tripped: set[str], tmp_path: Path, capfd: Captured
) -> None:
    limits = tmp_path / "gates.toml"
    limits.write_text('schema_version = 1\n[limits]\nmin_device_agreement_pct = "off"\nmax_size_ratio = 0.29\n')
    before, now = _report(**EARLIER), _report(**EARLIER | target)
    now = now.model_copy(update={name: getattr(now, name).model_copy(update=part) for name, part in parts.items()})
    junit, markdown = tmp_path / "gates.xml", tmp_path / "gates.md"
    words = ["gate", str(_write(tmp_path / "now.json", now)), "--gates", str(limits), "--json"]
    words += ["--baseline", str(_write(tmp_path / "before.json", before)), "--junit", str(junit)]
    assert run([*words, "--markdown", str(markdown)]) == 1
    outcomes = _outcomes(capfd.readouterr().out)
    assert {name for name, outcome in outcomes.items() if outcome in ("failed", "undecided")} == tripped
    cases = [
        c for c in ET.parse(junit).iter("testcase") if c.find("failure") is not None or c.find("error") is not None
    ]
    assert {case.attrib["name"].split()[0] for case in cases} == tripped
    top = markdown.read_text(encoding="utf-8").partition("<details>")[0]
    assert {name for name in outcomes if f"| {name} " in top} == tripped


def test_a_file_in_a_folder_that_does_not_exist_is_one_line(report_file: Path, tmp_path: Path, capfd: Captured) -> None:
    for option in ("--junit", "--markdown", "--init"):
        assert run(["gate", str(report_file), option, str(tmp_path / "absent" / "file")]) == 2
        assert "name a file in a folder that exists" in one_line(capfd.readouterr().err)


def test_another_model_as_baseline_is_never_exit_code_0(report_file: Path, tmp_path: Path, capfd: Captured) -> None:
    before = _report()
    other = before.model_copy(update={"model": before.model.model_copy(update={"sha256": "11" * 32})})
    words = ["gate", str(report_file), "--baseline", str(_write(tmp_path / "before.json", other))]
    assert run([*words, "--undecided", "warn", "--json"]) == 1
    outcomes = _outcomes(capfd.readouterr().out)
    assert [name for name, outcome in outcomes.items() if outcome == "failed"] == ["baseline_model"]
    assert "baseline_top1_drop_pp" not in outcomes
    assert run([*words, "--accept-difference", "model"]) == 0
    assert run([*words, "--accept-difference", "weather"]) == 2
    assert "valid: model, evaluation, calibration" in one_line(capfd.readouterr().err)


def test_gate_init_writes_a_file_that_gate_takes(report_file: Path, tmp_path: Path, capfd: Captured) -> None:
    made = tmp_path / "gates.toml"
    assert run(["gate", str(report_file), "--init", str(made)]) == 0
    assert capfd.readouterr().out.split() == [str(made)]
    assert run(["gate", str(report_file), "--gates", str(made)]) == 0
    made.write_text(made.read_text(encoding="utf-8").replace("max_size_ratio = 0.29", "max_size_ratio = 0.28"))
    assert run(["gate", str(report_file), "--gates", str(made)]) == 1
    assert run(["gate", str(report_file), "--init", str(made)]) == 2
    assert "exists already" in one_line(capfd.readouterr().err)


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
    heavy = ("torch", "numpy", "pydantic", "onnx", "PIL", "executorch", "coremltools", "transformers", "matplotlib")
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
    result = subprocess.run(
        command, stdout=write, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT, timeout=300
    )
    os.close(write)
    assert result.stderr == "" and result.returncode == (0 if verb == "doctor" else 141)


@pytest.mark.parametrize("closed", [">&-", "<&- >&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("arguments", ["doctor", "doctor --json", "--version", f"inspect {ROOT / 'absent'}"])
def test_in_a_shell_closed_streams_change_no_exit_code(arguments: str, closed: str) -> None:
    command = f'"{sys.executable}" -m levit_edge {arguments} {closed}'
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, cwd=ROOT, timeout=300)
    fails = arguments.startswith("inspect")
    assert result.returncode == (2 if fails else 0)
    assert bool(result.stdout) is (not fails and ">&-" not in closed.replace("2>&-", ""))
    assert bool(result.stderr) is (fails and "2>&-" not in closed)


def test_in_a_shell_a_closed_stdout_is_no_trouble_to_a_verb_that_works(tmp_path: Path) -> None:
    """It holds native output back, which needs a descriptor 1."""
    command = f'"{sys.executable}" -m levit_edge build --model "{tmp_path}/absent" --target onnx >&-'
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 2 and "absent" in one_line(result.stderr)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_in_a_shell_a_full_disk_behind_standard_output_is_one_line() -> None:
    command = [sys.executable, "-m", "levit_edge", "doctor"]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    assert result.returncode == 2 and "standard output: no space left" in one_line(result.stderr)
