"""The doctor: what is installed, what it can do, and the command for the rest."""

from __future__ import annotations

import json
import platform
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from levit_edge import __version__, doctor
from levit_edge.cli import run
from levit_edge.devices.qemu.folder import CACHE_VARIABLE
from levit_edge.report.answers import DoctorRow
from targets.registry import TARGETS
from tests.levit_edge.cli.commands import Captured
from tests.targets.toy import TOY

LIMITS = {"torch": "==2.13.*", "onnxruntime": ">=1.27"}


EMULATED = DoctorRow(
    name="qemu-arm64", kind="device", executes="no", note="not added: cores", fix="levit-edge device add qemu-arm64"
)


def row(name: str) -> DoctorRow:
    return next(row for row in doctor.examine("0.1.0", ()).rows if row.name == name)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A machine with these packages, on Linux."""
    versions = dict.fromkeys(("torchao", "executorch", "coremltools", "onnx", "onnxscript"), "9.9")
    versions |= {"torch": "2.13.1+cpu", "onnxruntime": "1.31.1"}

    def version(package: str) -> str:
        if package not in versions:
            raise metadata.PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "requires", lambda name: [f"{package}{limit}" for package, limit in LIMITS.items()])
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    return versions


def test_every_target_has_a_row_and_the_devices_follow(installed: dict[str, str]) -> None:
    local = DoctorRow(name="local", kind="device", executes="yes")
    rows = doctor.examine("0.1.0", (local, EMULATED)).rows
    assert [(row.name, row.kind) for row in rows[: len(TARGETS)]] == [(name, "target") for name in TARGETS]
    assert rows[len(TARGETS) :] == (local, EMULATED)


def test_a_target_that_was_registered_has_a_row(installed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "toy", replace(TOY, executes_on=("Darwin", "Windows"), elsewhere="not here"))
    toy = row("toy")
    assert (toy.lowers, toy.executes, toy.note) == ("yes", "needs macOS or Windows", "not here")
    assert toy.packages == {"torch": "2.13.1+cpu", "torchao": "9.9"}
    installed["torch"] = "1.0"
    assert (row("toy").lowers, row("toy").note) == ("no", "torch is 1.0; not here")


@pytest.mark.parametrize("as_json", [True, False])
def test_the_verb_shows_what_a_device_says_of_itself(
    as_json: bool, monkeypatch: pytest.MonkeyPatch, capfd: Captured
) -> None:
    monkeypatch.setattr("levit_edge.devices.doctor_rows", lambda: (EMULATED,))
    assert run(["doctor", *(["--json"] if as_json else [])]) == 0
    out = capfd.readouterr().out
    if as_json:
        shown = json.loads(out)
        assert shown["levit_edge"] == __version__
        assert EMULATED.model_dump(mode="json") in shown["rows"]
    else:
        (line,) = (line for line in out.splitlines() if EMULATED.note in line)
        assert "qemu-arm64" in line and out.count(EMULATED.fix) == 1


def test_the_verb_asks_the_machine_of_this_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: Captured
) -> None:
    """Nothing was added to an empty cache folder, whether or not there is an emulator."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert run(["doctor", "--json"]) == 0
    (shown,) = (row for row in json.loads(capfd.readouterr().out)["rows"] if row["name"] == "qemu-arm64")
    assert shown["executes"] == "no" and shown["note"] and not list(tmp_path.iterdir())


def test_a_complete_machine_needs_no_fix(installed: dict[str, str]) -> None:
    assert [(row(name).lowers, row(name).executes, row(name).fix) for name in TARGETS] == [
        ("yes", "yes", ""),
        ("yes", "needs macOS", ""),
        ("yes", "yes", ""),
    ]
    assert (
        row("coreml").note == "elsewhere a reference interpreter judges its accuracy, and its latency is not measured"
    )


def test_core_ml_executes_on_macos(installed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert (row("coreml").executes, row("coreml").note) == ("yes", "")


def test_a_missing_runtime_leaves_lowering(installed: dict[str, str]) -> None:
    del installed["onnxruntime"]
    onnx = row("onnx")
    assert (onnx.lowers, onnx.executes, onnx.fix) == ("yes", "no", "pip install 'onnxruntime>=1.27'")
    assert onnx.packages["onnxruntime"] is None


def test_a_version_outside_the_limits_counts_as_missing(installed: dict[str, str]) -> None:
    installed["torch"] = "2.14.0"
    executorch = row("executorch")
    assert (executorch.lowers, executorch.executes) == ("no", "no")
    assert executorch.note == "torch is 2.14.0" and executorch.fix == "pip install 'torch==2.13.*'"


def test_limits_of_extras_and_of_other_machines_do_not_count(
    installed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        "torch (<3,>=2)",
        "torchao>=99 ; extra == 'bench'",
        "onnx>=99 ; python_version < '3'",
        "onnxruntime[all]>=9",
    ]
    monkeypatch.setattr(metadata, "requires", lambda name: lines)
    assert (row("executorch").lowers, row("onnx").lowers) == ("yes", "yes")
    assert row("onnx").fix == "pip install 'onnxruntime>=9'"
    installed["torch"] = "3.0"
    assert row("executorch").fix == "pip install 'torch<3,>=2'"


def test_an_installation_without_metadata_limits_nothing(
    installed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    installed["torch"] = "1.0"
    assert (row("executorch").lowers, row("executorch").fix) == ("yes", "")


@pytest.mark.parametrize(
    ("version", "limits", "expected"),
    [
        ("2.13.0+cpu", "==2.13.*", True),
        ("2.13.0a0+git1234567", "==2.13.*", True),
        ("2.14.0", "==2.13.*", False),
        ("9.0", "==9.0", True),
        ("9.0.1", "==9.0", False),
        ("1.31.1", ">=1.27", True),
        ("1.9", ">=1.27", False),
        ("0.17.5", ">=0.17,<0.18", True),
        ("0.18.0", ">=0.17,<0.18", False),
        ("1.0", "", True),
        (None, "", False),
    ],
)
def test_version_limits(version: str | None, limits: str, expected: bool) -> None:
    assert doctor.satisfies(version, SpecifierSet(limits)) is expected
