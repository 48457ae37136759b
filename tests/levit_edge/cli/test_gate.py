"""The `gate` verb on real reports, and the command line as a shell runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from levit_edge import __version__
from levit_edge.cli import run
from levit_edge.gates.gate import at_most
from tests.levit_edge.cli.commands import ROOT, Captured, one_line, shell
from tests.levit_edge.report import reports


@pytest.fixture
def report_file(tmp_path: Path) -> Path:
    path = tmp_path / "report.json"
    path.write_text(reports.report(onnx=reports.target()).to_json(), encoding="utf-8")
    return path


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
