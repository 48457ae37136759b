"""The doctor: what is installed, what it can do, and the command for the rest."""

from __future__ import annotations

import platform
import shutil
from importlib import metadata

import pytest

from levit_edge import doctor
from levit_edge.results import DoctorRow
from levit_edge.thresholds import TARGETS

LIMITS = {"torch": "==2.13.*", "onnxruntime": ">=1.27"}


def row(name: str) -> DoctorRow:
    return next(row for row in doctor.examine("0.1.0").rows if row.name == name)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A machine with these packages, on Linux, without any program."""
    versions = dict.fromkeys(("torchao", "executorch", "coremltools", "onnx", "onnxscript"), "9.9")
    versions |= {"torch": "2.13.1+cpu", "onnxruntime": "1.31.1"}

    def version(package: str) -> str:
        if package not in versions:
            raise metadata.PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "requires", lambda name: [f"{package}{limit}" for package, limit in LIMITS.items()])
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(shutil, "which", lambda program: None)
    return versions


def test_every_target_and_device_has_a_row(installed: dict[str, str]) -> None:
    rows = doctor.examine("0.1.0").rows
    assert tuple(row.name for row in rows if row.kind == "target") == TARGETS
    assert [row.name for row in rows if row.kind == "device"] == ["local", "qemu-arm64", "ssh", "adb"]


def test_a_complete_machine_needs_no_fix(installed: dict[str, str]) -> None:
    assert [(row(name).lowers, row(name).executes, row(name).fix) for name in TARGETS] == [
        ("yes", "yes", ""),
        ("yes", "needs macOS", ""),
        ("yes", "yes", ""),
    ]


def test_core_ml_executes_on_macos(installed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert row("coreml").executes == "yes"


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


def test_a_device_whose_program_is_missing_names_the_command(installed: dict[str, str]) -> None:
    assert row("qemu-arm64").fix == "sudo apt-get install qemu-user"
    assert row("adb").executes == "no"


def test_a_device_is_not_called_available_because_its_program_is(
    installed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")
    assert (row("adb").executes, row("adb").fix) == ("no", "")
    assert "local only" in row("adb").note


@pytest.mark.parametrize(
    ("version", "limits", "expected"),
    [
        ("2.13.0+cpu", "==2.13.*", True),
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
    assert doctor.satisfies(version, limits) is expected
