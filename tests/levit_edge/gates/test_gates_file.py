"""Default limits, and the gates file that changes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from levit_edge.errors import InputError
from levit_edge.gates.gate import BASES
from levit_edge.gates.gates_file import GatesFile, load_gates_file, read_gates
from levit_edge.gates.registry import GATES
from levit_edge.gates.resolve_limits import default_limits, limits_for

TARGETS = ("executorch", "coreml", "onnx")
OF_TARGET = {"int8": {"max_size_ratio": 0.29}}
DEVICE = "qemu-arm64:cortex-a76"


def test_default_limits_are_those_of_the_recipe_and_of_the_target() -> None:
    on = {name: limit for name, limit in default_limits("int8", OF_TARGET).items() if limit is not None}
    assert on == {
        "max_top1_drop_pp": 1.5,
        "min_agreement_pct": 97,
        "max_program_departures": 0,
        "min_device_agreement_pct": 96.5,
        "max_size_ratio": 0.29,
        "min_speedup": 1,
    }
    assert [default_limits(base, OF_TARGET)["max_top1_drop_pp"] for base in BASES] == [1.5, 1.0, 0.75, 0.5]
    assert [default_limits(base, OF_TARGET)["min_agreement_pct"] for base in BASES] == [97, 98, 99, 99.5]
    assert [default_limits(base, OF_TARGET)["min_speedup"] for base in BASES] == [1, None, None, None]
    assert default_limits("fp32", OF_TARGET)["max_size_ratio"] is None
    with pytest.raises(InputError, match="no limits for recipe 'int4'; valid: int8, w8a16, fp16, fp32"):
        default_limits("int4", OF_TARGET)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"max_size": 0.3}, "unknown limit 'max_size'"), ({"max_size_ratio": 0.0}, "greater than 0")],
)
def test_the_limits_of_a_target_are_checked(wrong: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        default_limits("int8", {"int8": wrong})


def _toml(tmp_path: Path, text: str, head: str = "schema_version = 1\n") -> Path:
    path = tmp_path / "gates.toml"
    path.write_text(head + text)
    return path


LAYERS = f"""
undecided = "warn"
[limits]
max_top1_drop_pp = 1
min_speedup = 1.5
min_device_agreement_pct = 98
[regression]
sqnr_db = 0.5
accept_difference = ["host"]
[devices."{DEVICE}"]
min_device_agreement_pct = 98.5
[targets.coreml.limits]
min_speedup = "off"
max_size_ratio = 0.3
[targets.coreml.regression]
size_pct = 1
[targets.onnx.devices."{DEVICE}"]
max_device_instructions_m = 60
"""


def test_a_file_changes_limits_for_all_for_one_target_and_for_one_device(tmp_path: Path) -> None:
    file = load_gates_file(_toml(tmp_path, LAYERS), TARGETS)
    onnx, coreml = (limits_for(name, "int8", OF_TARGET, file) for name in ("onnx", "coreml"))
    assert (onnx.bundle["max_top1_drop_pp"], onnx.bundle["min_speedup"], onnx.bundle["max_size_ratio"]) == (
        1,
        1.5,
        0.29,
    )
    assert (coreml.bundle["min_speedup"], coreml.bundle["max_size_ratio"]) == (None, 0.3)
    agreement, counted = GATES["device_agreement_pct"], GATES["device_instructions_m"]
    assert (onnx.of(agreement), onnx.of(agreement, DEVICE), onnx.of(agreement, "another")) == (98, 98.5, 98)
    assert (onnx.of(counted, DEVICE), onnx.of(counted), coreml.of(counted, DEVICE)) == (60, None, None)
    assert file.undecided == "warn" and read_gates(tmp_path / "gates.toml", TARGETS, "fail").undecided == "fail"
    assert (file.regression_of("onnx").size_pct, file.regression_of("coreml").size_pct) == (2.0, 1)
    assert file.regression_of("coreml").sqnr_db == 0.5
    accepted = read_gates(tmp_path / "gates.toml", TARGETS, None, ("model", "host")).regression_of("coreml")
    assert accepted.accept_difference == ("host", "model")


def test_without_a_file_the_defaults_hold_and_undecided_fails() -> None:
    assert read_gates(None, TARGETS) == GatesFile()
    assert GatesFile().undecided == "fail"
    assert limits_for("onnx", "int8", OF_TARGET).bundle == default_limits("int8", OF_TARGET)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = ", "cannot be read as a gates file"),
        ("max_drop = 1", "unknown key 'max_drop'; valid tables: limits"),
        ("[limits]\nmax_drop = 1", "limits: unknown limit 'max_drop'; valid: max_top1_drop_pp"),
        ("[targets.tflite.limits]\nmin_speedup = 1", r"unknown target 'tflite' in \[targets\]; valid: executorch"),
        ("[targets.onnx.limits]\nmax_drop = 1", r"targets\.onnx\.limits: unknown limit 'max_drop'"),
        ("[limits]\nmin_speedup = true", r"limits: min_speedup is True: .*valid number"),
        ('[limits]\nmin_speedup = "fast"', "limits: min_speedup is 'fast': .*\"off\" removes the gate"),
        ("[limits]\nmin_agreement_pct = 101", r"min_agreement_pct is 101: .*less than or equal to 100"),
        ("[limits]\nmin_agreement_pct = 1979-05-27", "min_agreement_pct is .*valid number"),
        ("[limits]\nmin_speedup = nan", "min_speedup is nan"),
        ("limits = 3", "limits: 3 is no table of limits"),
        ('[limits]\ncalibration_sha256 = "abc"', "calibration_sha256 is 'abc'"),
        ("[devices.board]\nmin_speedup = 1", r"devices\.board: unknown limit 'min_speedup'; valid: min_device_agr"),
        ('undecided = "maybe"', "undecided is 'maybe': .*'fail' or 'warn'"),
        ('[regression]\naccept_difference = ["weather"]', r"regression\.accept_difference\.0 is 'weather'"),
        ("[regression]\nsqnr_db = -1", "regression.sqnr_db is -1"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as failure:
        load_gates_file(_toml(tmp_path, text), TARGETS)
    assert "gates.toml" in str(failure.value) and "\n" not in str(failure.value)


def test_the_version_must_be_there_and_known(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no schema_version; write schema_version = 1"):
        load_gates_file(_toml(tmp_path, "[limits]\nmin_speedup = 1", head=""), TARGETS)
    with pytest.raises(InputError, match="schema_version is 2"):
        load_gates_file(_toml(tmp_path, "", head="schema_version = 2"), TARGETS)
    with pytest.raises(InputError, match="cannot be read as a gates file"):
        load_gates_file(tmp_path / "absent.toml", TARGETS)
