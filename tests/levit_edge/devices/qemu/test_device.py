"""What an emulated processor says of itself; test_emulator.py lets it run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from levit_edge.devices.qemu import device
from levit_edge.devices.qemu.counting_plugin import SOURCE
from levit_edge.devices.qemu.cpus import cpu_model
from levit_edge.devices.qemu.device import MAX_COUNTED_RUNS, EmulatedDevice
from levit_edge.errors import InputError, MissingComponentError
from levit_edge.progress import QUIET
from targets.registry import TARGETS
from targets.runner import BatchRunner

A76 = EmulatedDevice(cpu_model("a76"))
IMAGE = np.zeros((1, 3, 8, 8), dtype=np.float32)


def test_it_executes_and_counts() -> None:
    assert (A76.name, A76.architecture) == ("qemu-arm64:cortex-a76", "arm64")
    assert (A76.executes, A76.times, A76.counts) == (True, False, True)
    with pytest.raises(InputError, match="cortex-a76 counts instructions; its times say nothing"):
        A76.time("onnx", Path("reference"), Path("model"), IMAGE, 1, 1)


@pytest.mark.parametrize("runs", [0, MAX_COUNTED_RUNS + 1])
def test_it_counts_as_many_inferences_as_the_plugin_has_room_for(runs: int) -> None:
    A76.check_runs(1, 1)
    A76.check_runs(1, MAX_COUNTED_RUNS)
    with pytest.raises(InputError, match=f"runs is {runs}; qemu-arm64:cortex-a76 counts 1 to 1000 inferences"):
        A76.check_runs(1, runs)
    (room,) = (line.split()[2] for line in SOURCE.read_text(encoding="utf-8").splitlines() if "MAX_PHASES 4" in line)
    assert int(room) >= MAX_COUNTED_RUNS


def test_it_counts_one_thread() -> None:
    with pytest.raises(InputError, match="threads is 2; qemu-arm64:cortex-a76 counts the instructions of 1 thread"):
        A76.check_runs(2, 5)


def test_what_counting_needs_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Path:
        raise MissingComponentError("a C compiler", "sudo apt-get install gcc")

    monkeypatch.setattr(device, "counting_plugin", absent)
    with pytest.raises(MissingComponentError, match="install gcc"):
        A76.check()


def test_a_loaded_model_takes_batches_and_says_what_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "versions", lambda: {"onnxruntime": "1.2"})
    runner = A76.load("onnx", Path("model.onnx"), 1, QUIET)
    assert isinstance(runner, BatchRunner) and runner.executed
    assert runner.runtime == "onnxruntime-cpu 1.2 on qemu-arm64:cortex-a76"
    with pytest.raises(InputError, match="does not run coreml bundles; it runs: executorch, onnx"):
        A76.load("coreml", Path("model.mlpackage"), 1, QUIET)


def test_the_runtimes_of_the_guest_are_those_of_the_device() -> None:
    from levit_edge.devices.qemu import guest

    assert set(guest.RUNTIMES) == set(device.RUNTIMES)
    assert set(device.RUNTIMES) <= {target.runtime for target in TARGETS.values()}
