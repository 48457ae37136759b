"""This machine as a device: it answers and times, and counts nothing."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from levit_edge.devices import Device, local, open_device
from levit_edge.devices.local import LocalDevice, time_runners
from levit_edge.errors import InputError, MissingComponentError
from levit_edge.metrics.measurement_defaults import WARMUP_ROUNDS
from levit_edge.progress import QUIET
from targets.registry import TARGETS
from targets.runner import Image, Logits
from tests.programs import FULL, micro
from tests.targets.conftest import Written
from tests.targets.models import logits


def _device() -> Device:
    return open_device("local")


def test_it_says_what_it_can_do() -> None:
    device = _device()
    assert isinstance(device, LocalDevice) and device.name == "local"
    assert device.architecture == platform.machine()
    assert (device.executes, device.times, device.counts) == (True, True, False)
    device.check()
    with pytest.raises(InputError, match="local does not count instructions"):
        device.count("onnx", (), np.zeros((1, 3, 8, 8), np.float32), 1)


@pytest.mark.parametrize("name", TARGETS)
def test_the_runtime_is_the_package_with_its_version(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(local.metadata, "version", lambda package: "1.2")
    assert _device().runtime(name) == f"{TARGETS[name].runs_with[0]} 1.2 on local"


def test_a_stand_in_is_called_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert _device().runtime("coreml") == "a stand-in for coreml on local"


def test_a_runtime_that_is_absent_has_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        raise local.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(local.metadata, "version", version)
    with pytest.raises(MissingComponentError, match=r"onnxruntime is not .*: pip install onnxruntime$"):
        _device().runtime("onnx")


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(InputError, match="unknown target 'tflite'; valid: "):
        _device().runtime("tflite")


@pytest.mark.parametrize(
    ("threads", "runs", "reason"), [(0, 1, "threads is 0; local uses"), (1, 0, "runs is 0; local")]
)
def test_it_times_one_thread_and_one_round_at_least(threads: int, runs: int, reason: str) -> None:
    _device().check_runs(1, 1)
    _device().check_runs(64, 100_000)
    with pytest.raises(InputError, match=reason):
        _device().check_runs(threads, runs)


def test_it_answers_and_times_with_the_runtime_of_the_target(written: Written) -> None:
    built, reference = written("onnx", FULL.name), written("onnx", "fp32")
    runner = _device().load("onnx", built, 1, QUIET)
    np.testing.assert_array_equal(logits(runner), logits(TARGETS["onnx"].backend.load(built, 1)))
    timing = _device().time("onnx", reference, built, micro().images[:1].numpy(), 1, 3)
    assert timing is not None and timing.reference.median_ms > 0
    assert (len(timing.reference.samples), len(timing.model.samples)) == (3, 3)


class _Named:
    """A runner that writes down when it was called."""

    runtime = "toy"

    def __init__(self, name: str, calls: list[str], executed: bool = True) -> None:
        self.name, self.calls, self.executed = name, calls, executed

    def __call__(self, image: Image) -> Logits:
        self.calls.append(self.name)
        return image


def test_loaded_runners_take_turns() -> None:
    calls: list[str] = []
    timing = time_runners(_Named("float", calls), _Named("int8", calls), np.zeros((1, 3, 8, 8), np.float32), 4)
    rounds = [calls[i : i + 2] for i in range(0, len(calls), 2)]
    assert len(rounds) == WARMUP_ROUNDS + 4 and all(set(pair) == {"float", "int8"} for pair in rounds)
    assert rounds[0] == rounds[2] != rounds[1] == rounds[3]
    assert len(timing.reference.samples) == len(timing.model.samples) == 4


def test_a_stand_in_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    coreml = TARGETS["coreml"]
    backend = replace(coreml.backend, load=lambda path, threads: _Named("simulated", [], executed=False))
    monkeypatch.setitem(TARGETS, "coreml", replace(coreml, load_backend=lambda: backend))
    image = np.zeros((1, 3, 8, 8), np.float32)
    assert _device().time("coreml", Path("reference"), Path("model"), image, 1, 3) is None
