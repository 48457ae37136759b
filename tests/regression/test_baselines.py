"""The recorded baselines themselves: complete, of the default recipe, and within what the project promises."""

from __future__ import annotations

import pytest

from targets.registry import TARGETS
from tests.regression.conftest import BASELINES, read_baseline


def test_there_is_one_baseline_for_each_target() -> None:
    assert sorted(path.name for path in BASELINES.iterdir()) == sorted(f"{name}.json" for name in TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_a_baseline_keeps_the_promises(name: str) -> None:
    content = read_baseline(name)
    assert content["recipe"] == "int8" and set(TARGETS[name].versions()) == set(content["tool_versions"])
    accuracy, delegation = content["accuracy"], content["delegation"]
    assert accuracy["n"] == 1000 and accuracy["top1_drop_pp"] <= 0.5 and accuracy["agreement_pct"] >= 98
    assert content["size_ratio"] <= (0.32 if name == "executorch" else 0.29)
    assert delegation["fallback_ops"] == (None if delegation["delegates"] is None else 0) and delegation["int8_ops"] > 0
    assert delegation["delegates"] == (1 if name == "executorch" else None)
    least = {"executorch": 1.9, "onnx": 1.5}
    assert (content["speedup"] is None) if name == "coreml" else (content["speedup"] >= least[name])


@pytest.mark.parametrize("name", TARGETS)
def test_a_baseline_says_how_many_instructions_arm_needs(name: str) -> None:
    """At least as many as 305 million multiply-adds take when every instruction does sixteen of them, in int8."""
    devices = read_baseline(name)["devices"]
    assert list(devices) == ([] if name == "coreml" else ["qemu-arm64:cortex-a76"])
    for counted in devices.values():
        assert 305e6 / 16 < counted["instructions"] < 0.75 * counted["fp32_instructions"]
        assert set(counted) == {"runtime", "fp32_instructions", "instructions"}
