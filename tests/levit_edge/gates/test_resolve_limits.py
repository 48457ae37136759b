"""Default limits, and the TOML file that changes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from levit_edge.errors import InputError
from levit_edge.gates.gate import BASES
from levit_edge.gates.resolve_limits import default_limits, limits_for, load_limits

TARGETS = ("executorch", "coreml", "onnx")
OF_TARGET = {"int8": {"max_size_ratio": 0.29}}


def test_default_limits_are_those_of_the_recipe_and_of_the_target() -> None:
    assert default_limits("int8", OF_TARGET) == {
        "max_top1_drop_pp": 0.5,
        "min_agreement_pct": 98,
        "min_device_agreement_pct": 99,
        "max_size_ratio": 0.29,
        "min_speedup": 1,
    }
    assert [default_limits(base, OF_TARGET)["max_top1_drop_pp"] for base in BASES] == [0.5, 0.5, 0.2, 0.1]
    assert [default_limits(base, OF_TARGET)["min_agreement_pct"] for base in BASES] == [98, 99, 99.5, 99.9]
    assert [default_limits(base, OF_TARGET)["min_speedup"] for base in BASES] == [1, None, None, None]
    assert default_limits("fp32", OF_TARGET)["max_size_ratio"] is None
    with pytest.raises(InputError, match="no thresholds for recipe 'int4'; valid: int8, w8a16, fp16, fp32"):
        default_limits("int4", OF_TARGET)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"max_size": 0.3}, "no gate has the limit 'max_size'"), ({"max_size_ratio": 0.0}, "greater than 0")],
)
def test_the_limits_of_a_target_are_checked(wrong: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        default_limits("int8", {"int8": wrong})


def _toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "limits.toml"
    path.write_text(text)
    return path


def test_limits_from_a_file(tmp_path: Path) -> None:
    lines = (
        "max_top1_drop_pp = 1",
        "min_device_agreement_pct = 98.5",
        "min_speedup = 1.5",
        "[coreml]",
        'min_speedup = "off"',
        "max_size_ratio = 0.3",
    )
    changes = load_limits(_toml(tmp_path, "\n".join(lines)), TARGETS)
    assert list(changes) == list(TARGETS)
    assert limits_for("int8", OF_TARGET, changes["onnx"]) == {
        "max_top1_drop_pp": 1,
        "min_agreement_pct": 98,
        "min_device_agreement_pct": 98.5,
        "max_size_ratio": 0.29,
        "min_speedup": 1.5,
    }
    coreml = limits_for("int8", OF_TARGET, changes["coreml"])
    assert (coreml["max_top1_drop_pp"], coreml["max_size_ratio"], coreml["min_speedup"]) == (1, 0.3, None)
    assert limits_for("int8", OF_TARGET) == default_limits("int8", OF_TARGET)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = ", "cannot be read as thresholds"),
        ("max_drop = 1", "unknown key 'max_drop'; valid: max_top1_drop_pp"),
        ("[tflite]\nmin_speedup = 1", "unknown key 'tflite'; valid: .*, and tables executorch, coreml, onnx"),
        ("[onnx]\nmax_drop = 1", r"unknown key 'onnx\.max_drop'"),
        ("min_speedup = true", 'min_speedup is True; give a number, or "off"'),
        ('min_speedup = "fast"', "min_speedup is 'fast'; give a number"),
        ("[onnx]\nmin_agreement_pct = 101", r"onnx\.min_agreement_pct is 101.*less than or equal to 100"),
        ("min_agreement_pct = 1979-05-27", "min_agreement_pct is .*: Input should be a valid number"),
        ("onnx = 3", "onnx is 3; give a table of limits"),
        ("min_speedup = nan", "min_speedup is nan"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as failure:
        load_limits(_toml(tmp_path, text), TARGETS)
    assert "limits.toml" in str(failure.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read as thresholds"):
        load_limits(tmp_path / "absent.toml", TARGETS)
