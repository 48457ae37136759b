"""The guest program and how it is started, with a stand-in that runs it on this machine's own processor."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from levit_edge.devices.qemu import device, emulator
from levit_edge.devices.qemu.cpus import cpu_model
from levit_edge.devices.qemu.device import EmulatedDevice
from levit_edge.errors import InputError, LevitEdgeError
from levit_edge.progress import QUIET
from targets.registry import TARGETS
from tests.places import ROOT
from tests.programs import FULL, micro
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
    monkeypatch.setattr(device, "site_folders", lambda runtime: (packages, packages))
    monkeypatch.setattr(device, "versions", lambda: {"onnxruntime": "1", "executorch": "1"})
    return stand_in


def _write(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}", encoding="utf-8")
    path.chmod(0o755)


def _device() -> EmulatedDevice:
    return EmulatedDevice(cpu_model("a76"))


def _waits(mark: Path) -> str:
    """A guest that has to be ended: left alone, it makes ``mark`` after a long while. No test looks at the clock.

    It is a Python of this machine, which would look for its library in the guest's PYTHONHOME.
    """
    program = f"import pathlib, time; time.sleep(600); pathlib.Path({str(mark)!r}).touch()"
    return f'echo done 0; exec env -u PYTHONHOME {sys.executable} -S -c "{program}"\n'


@pytest.mark.parametrize("name", ["onnx", "executorch"])
def test_the_guest_gives_the_logits_of_the_runtime(name: str, emulated: Path, written: Written) -> None:
    path = written(name, FULL.name)
    found = _device().logits(name, path, micro().images[:3].numpy(), QUIET)
    np.testing.assert_array_equal(found, logits(TARGETS[name].backend.load(path, 1))[:3])


def test_images_keep_their_order_and_any_strides(
    emulated: Path, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_cores", lambda: 3)
    path, images = written("onnx", FULL.name), micro().images.numpy()
    expected = logits(TARGETS["onnx"].backend.load(path, 1))
    np.testing.assert_array_equal(_device().logits("onnx", path, np.asfortranarray(images), QUIET), expected)


def test_a_crash_of_the_emulator_is_tried_once_more(
    emulated: Path, written: Written, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    once = f"if [ ! -e {tmp_path}/crashed ]; then touch {tmp_path}/crashed; kill -SEGV $$; fi\n"
    _write(emulated, once + NATIVE)
    path = written("onnx", FULL.name)
    found = _device().logits("onnx", path, micro().images[:1].numpy(), QUIET)
    assert found.shape == (1, 3) and "the emulator crashed" in caplog.text


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("echo a warning >&2; kill -SEGV $$", r"model\.onnx failed on qemu-arm64:cortex-a76: ended by SIGSEGV$"),
        ("exit 139", "ended by SIGSEGV$"),
        ("kill -KILL $$", "ended by SIGKILL; is there enough memory"),
        ("exit 0", r"ended without an answer for model\.onnx"),
        ("echo first >&2; echo no such file >&2; exit 1", r"failed on .*: no such file$"),
    ],
)
def test_a_failure_is_one_line(body: str, reason: str, emulated: Path, written: Written) -> None:
    _write(emulated, body)
    with pytest.raises(LevitEdgeError, match=reason) as caught:
        _device().logits("onnx", written("onnx", FULL.name), micro().images[:1].numpy(), QUIET)
    assert "\n" not in str(caught.value)


def test_a_model_that_the_runtime_refuses_gives_its_words(emulated: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"hello")
    with pytest.raises(LevitEdgeError, match=r"broken\.onnx failed on .*Protobuf"):
        _device().logits("onnx", broken, micro().images[:1].numpy(), QUIET)


def test_leaving_early_ends_the_guests(emulated: Path, tmp_path: Path, cache: Path) -> None:
    _write(emulated, f"echo $$ > {tmp_path}/pid; {_waits(tmp_path / 'left alone')}")
    plan = emulator.Plan(runtime="onnxruntime", model="m", images="i", out="o", site=("s",))
    images = emulator.run_guests(cpu_model("a76"), [plan])
    next(images)
    images.close()
    assert not (tmp_path / "left alone").exists()
    assert not Path("/proc", (tmp_path / "pid").read_text(encoding="utf-8").strip(), "stat").exists()


def test_a_killed_guest_is_not_started_again(emulated: Path, tmp_path: Path, cache: Path) -> None:
    _write(emulated, f"echo x >> {tmp_path}/starts; kill -{signal.SIGTERM.value} $$\n")
    plan = emulator.Plan(runtime="onnxruntime", model="m", images="i", out="o", site=("s",))
    with pytest.raises(LevitEdgeError, match="ended by SIGTERM"):
        list(emulator.run_guests(cpu_model("a76"), [plan]))
    assert (tmp_path / "starts").read_text(encoding="utf-8") == "x\n"


def test_the_first_failure_ends_the_others(emulated: Path, tmp_path: Path, cache: Path) -> None:
    breaks = 'case "$*" in *second*) echo it broke >&2; exit 1;; esac; '
    _write(emulated, breaks + _waits(tmp_path / "left alone"))
    plan = emulator.Plan(runtime="onnxruntime", model="first", images="i", out="o", site=("s",))
    with pytest.raises(LevitEdgeError, match=r"second failed on .*: it broke"):
        list(emulator.run_guests(cpu_model("a76"), [plan, replace(plan, model="second")]))
    assert not (tmp_path / "left alone").exists()


def test_a_repeated_image_is_told_of_once(emulated: Path, tmp_path: Path, cache: Path) -> None:
    once = f"if [ ! -e {tmp_path}/crashed ]; then touch {tmp_path}/crashed; echo done 0; kill -SEGV $$; fi; "
    _write(emulated, once + "echo done 0; echo done 1\n")
    plan = emulator.Plan(runtime="onnxruntime", model="m", images="i", out="o", site=("s",))
    assert len(list(emulator.run_guests(cpu_model("a76"), [plan]))) == 2


def test_an_interrupt_ends_everything(emulated: Path, tmp_path: Path, cache: Path) -> None:
    """As a terminal does it: the signal goes to the whole group, of which the guests are no part."""
    _write(emulated, _waits(tmp_path / "left alone"))
    program = (
        "import signal\n"
        "from pathlib import Path\n"
        "from levit_edge.devices.qemu import emulator\n"
        "from levit_edge.devices.qemu.cpus import cpu_model\n"
        f"emulator.find_emulator = lambda: Path({str(emulated)!r})\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        "plan = emulator.Plan(runtime='onnxruntime', model='m', images='i', out='o', site=('s',))\n"
        "for _ in emulator.run_guests(cpu_model('a76'), [plan, plan]):\n"
        "    print('ready', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            os.killpg(process.pid, signal.SIGINT)
            process.communicate()
        finally:
            process.kill()
    assert process.returncode == -signal.SIGINT and not (tmp_path / "left alone").exists()


def test_commas_reach_the_emulator_doubled() -> None:
    assert emulator.plugin_option(Path("/a,b/p.so"), "/c,d/out") == "/a,,b/p.so,out=/c,,d/out"


def test_a_full_disk_is_one_line(emulated: Path, written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.tempfile, "TemporaryDirectory", _full_disk)
    with pytest.raises(InputError, match="no space left on the disk"):
        _device().logits("onnx", written("onnx", FULL.name), micro().images[:1].numpy(), QUIET)


def _full_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "/tmp/images.npy")
