"""The guest program and how it is started, with a stand-in that runs it on this machine's own processor."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from levit_edge.errors import LevitEdgeError
from levit_edge.progress import QUIET
from targets.devices.qemu import device, emulator
from targets.devices.qemu.cpus import cpu_model
from targets.devices.qemu.device import EmulatedDevice
from targets.registry import TARGETS
from tests.programs import micro
from tests.targets.conftest import Written
from tests.targets.models import logits

NATIVE = f"""
while [ "$1" != "-s" ]; do shift; done
unset PYTHONHOME
exec {sys.executable} "$@"
"""


@pytest.fixture
def emulated(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the emulator; tests may write another body into it."""
    stand_in = tmp_path / "qemu-aarch64"
    _write(stand_in, NATIVE)
    (cache / "parts" / "system").mkdir(parents=True)
    monkeypatch.setattr(emulator, "find_emulator", lambda: stand_in)
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    monkeypatch.setattr(device, "site_folders", lambda target: (packages, packages))
    monkeypatch.setattr(device, "versions", lambda: {"onnxruntime": "1", "executorch": "1"})
    return stand_in


def _write(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}", encoding="utf-8")
    path.chmod(0o755)


def _device() -> EmulatedDevice:
    return EmulatedDevice(cpu_model("a76"))


@pytest.mark.parametrize("name", ["onnx", "executorch"])
def test_the_guest_gives_the_logits_of_the_runtime(name: str, emulated: Path, written: Written) -> None:
    path = written(name, "int8")
    found = _device().logits(name, path, micro().images[:3].numpy(), QUIET)
    np.testing.assert_array_equal(found, logits(TARGETS[name].load(path, 1))[:3])


def test_images_keep_their_order_and_any_strides(
    emulated: Path, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device.os, "cpu_count", lambda: 3)
    path, images = written("onnx", "int8"), micro().images.numpy()
    expected = logits(TARGETS["onnx"].load(path, 1))
    np.testing.assert_array_equal(_device().logits("onnx", path, np.asfortranarray(images), QUIET), expected)


def test_a_crash_of_the_emulator_is_tried_once_more(
    emulated: Path, written: Written, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    once = f"if [ ! -e {tmp_path}/crashed ]; then touch {tmp_path}/crashed; kill -SEGV $$; fi\n"
    _write(emulated, once + NATIVE)
    path = written("onnx", "int8")
    found = _device().logits("onnx", path, micro().images[:1].numpy(), QUIET)
    assert found.shape == (1, 3) and "the emulator crashed" in caplog.text


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("kill -SEGV $$", r"model\.onnx failed on qemu-arm64:cortex-a76: exit code -11"),
        ("exit 139", "exit code 139"),
        ("echo first >&2; echo no such file >&2; exit 1", r"failed on .*: no such file$"),
    ],
)
def test_a_failure_is_one_line(body: str, reason: str, emulated: Path, written: Written) -> None:
    _write(emulated, body)
    with pytest.raises(LevitEdgeError, match=reason) as caught:
        _device().logits("onnx", written("onnx", "int8"), micro().images[:1].numpy(), QUIET)
    assert "\n" not in str(caught.value)


def test_a_model_that_the_runtime_refuses_gives_its_words(emulated: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"hello")
    with pytest.raises(LevitEdgeError, match=r"broken\.onnx failed on .*Protobuf"):
        _device().logits("onnx", broken, micro().images[:1].numpy(), QUIET)


def test_leaving_early_ends_the_guests(emulated: Path, tmp_path: Path, cache: Path) -> None:
    _write(emulated, f"echo $$ > {tmp_path}/pid; echo done 0; exec sleep 1000\n")
    plan = emulator.Plan(target="onnx", model="m", images="i", out="o", site=("s",))
    images = emulator.run_guests(cpu_model("a76"), [plan])
    started = time.monotonic()
    next(images)
    images.close()  # type: ignore[attr-defined]
    assert time.monotonic() - started < 60
    state = Path("/proc", (tmp_path / "pid").read_text(encoding="utf-8").strip(), "stat")
    assert not state.exists()


def test_a_killed_guest_is_not_started_again(emulated: Path, tmp_path: Path, cache: Path) -> None:
    _write(emulated, f"echo x >> {tmp_path}/starts; kill -{signal.SIGTERM.value} $$\n")
    plan = emulator.Plan(target="onnx", model="m", images="i", out="o", site=("s",))
    with pytest.raises(LevitEdgeError, match="exit code -15"):
        list(emulator.run_guests(cpu_model("a76"), [plan]))
    assert (tmp_path / "starts").read_text(encoding="utf-8") == "x\n"
