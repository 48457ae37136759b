"""A device is its folder and one row: what the registry makes of the rows."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from levit_edge.cli import run
from levit_edge.devices import add_device, addable, device_help, doctor_rows, open_device, registry, remove_device
from levit_edge.devices.qemu.folder import CACHE_VARIABLE
from levit_edge.errors import InputError
from levit_edge.progress import QUIET, Progress
from levit_edge.report.answers import AddedDevice, DoctorRow
from tests.levit_edge.pipeline.devices import NAME, ToyDevice, plug_in
from tests.places import ROOT

LIGHT = """
import sys
from levit_edge.cli import run
code = run({arguments})
heavy = [name for name in ("torch", "executorch", "coremltools", "onnx", "onnxruntime") if name in sys.modules]
print("imported:", *heavy, file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(autouse=True)
def _nothing_added(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache folder without any device."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))


@pytest.mark.parametrize("name", ["qemu", "qemu-arm64:", "LOCAL", "", "pixel", "ssh", "adb:1234", "ssh://me@board"])
def test_an_unknown_device_is_refused_with_the_valid_ones(name: str) -> None:
    with pytest.raises(InputError, match=rf"device '{name}' .*valid: local, qemu-arm64, qemu-arm64:cortex-a53, .*n1$"):
        open_device(name)


def test_this_machine_has_no_models() -> None:
    with pytest.raises(InputError, match="'local:fast' is unknown: local is one machine"):
        open_device("local:fast")


def test_a_row_is_all_that_a_device_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError):
        open_device(NAME)
    toy = ToyDevice()
    plug_in(monkeypatch, toy)
    assert open_device(NAME) is toy
    with pytest.raises(InputError, match=r"valid: local, .*, toy$"):
        open_device("pixel")
    assert [row.name for row in doctor_rows()][-1] == NAME and "a toy" in device_help()
    with pytest.raises(InputError, match="device 'toy' cannot be added or removed; valid: qemu-arm64"):
        add_device(NAME)


def test_what_follows_the_colon_is_for_the_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def open_it(model: str) -> ToyDevice:
        asked.append(model)
        return ToyDevice(name=f"toy:{model}")

    row = DoctorRow(name=NAME, kind="device", executes="yes")
    monkeypatch.setitem(registry.KINDS, NAME, registry.DeviceKind(NAME, lambda: row, open=open_it))
    assert open_device("toy:blue:1").name == "toy:blue:1" and open_device("toy").name == "toy:"
    assert asked == ["blue:1", ""]


def test_every_kind_has_a_row() -> None:
    rows = {row.name: row for row in doctor_rows()}
    assert list(rows) == ["local", "qemu-arm64", "ssh", "adb"] == list(registry.KINDS)
    assert (rows["local"].executes, rows["local"].note) == ("yes", platform.machine())
    assert all(row.kind == "device" for row in rows.values())


@pytest.mark.parametrize(
    ("system", "commands"),
    [
        ("Linux", ["sudo apt-get install openssh-client", "sudo apt-get install adb"]),
        ("Darwin", ["", "brew install --cask android-platform-tools"]),
    ],
)
def test_a_kind_that_does_not_run_names_the_command_for_its_program(
    system: str, commands: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(shutil, "which", lambda program: None)
    assert [(row.executes, row.fix) for row in doctor_rows()[-2:]] == [("no", command) for command in commands]


def test_a_kind_does_not_run_because_its_program_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")
    for row in doctor_rows()[-2:]:
        assert (row.executes, row.fix) == ("no", "") and "does not run bundles there" in row.note


def test_adding_and_removing_are_of_the_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    added = AddedDevice(name=NAME, folder="/toy", versions={}, size_bytes=7)

    def add(mirror: str | None, progress: Progress) -> AddedDevice:
        asked.append(mirror)
        return added

    row = DoctorRow(name=NAME, kind="device", executes="yes")
    kind = registry.DeviceKind(NAME, lambda: row, add=add, remove=lambda: 7)
    monkeypatch.setitem(registry.KINDS, NAME, kind)
    assert addable() == ("qemu-arm64", NAME)
    assert add_device(NAME, "http://mirror", QUIET) is added and asked == ["http://mirror"]
    removed = remove_device(NAME)
    assert (removed.name, removed.freed_bytes) == (NAME, 7)


@pytest.mark.parametrize("name", ["local", "ssh", "qemu-arm64:a53", "pixel"])
@pytest.mark.parametrize("verb", ["add", "remove"])
def test_what_cannot_be_added_is_refused(verb: str, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["device", verb, name]) == 2
    line = f"device '{name}' cannot be added or removed; valid: qemu-arm64 (one for all its CPUs)"
    assert line in capfd.readouterr().err


def test_removing_what_is_not_there_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["device", "remove", "qemu-arm64"]) == 0
    assert capfd.readouterr().out == "qemu-arm64 was not there\n"
    assert run(["device", "remove", "qemu-arm64", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"name": "qemu-arm64", "freed_bytes": 0}


@pytest.mark.parametrize("arguments", [["doctor"], ["--help"], ["device", "add", "--help"], ["build", "--help"]])
def test_nothing_heavy_is_imported_to_say_what_is_there(arguments: list[str]) -> None:
    program = LIGHT.format(arguments=arguments)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "imported:"
