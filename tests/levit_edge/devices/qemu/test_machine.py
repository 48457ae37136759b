"""Making, checking and removing the machine, as far as that goes without an emulator and a network."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from importlib import util
from pathlib import Path

import pytest

from levit_edge.devices import open_device, remove_device
from levit_edge.devices.qemu import NAME, debian, emulator, machine, wheels
from levit_edge.devices.qemu import counting_plugin as plugin
from levit_edge.devices.qemu.folder import CACHE_VARIABLE, make_part
from levit_edge.devices.qemu.registration import row as qemu_row
from levit_edge.errors import InputError, MissingComponentError

Which = Callable[[str], str | None]


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of its own, with an emulator and the Debian tools that do nothing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("qemu-aarch64", "apt-get", "apt-config", "dpkg-deb"):
        _script(folder / name, "exit 0")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def _script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)


def _complete(cache: Path) -> None:
    make_part("system", machine._SYSTEM_WANTED, lambda folder: {})
    make_part("cores", machine._CORES_WANTED, machine._write_cores)
    for part in wheels.all_wheels():
        make_part(part.name, part.wanted, lambda folder: {})


def test_without_the_emulator_its_command_is_named(tools: Path, cache: Path) -> None:
    (tools / "qemu-aarch64").unlink()
    for call in (machine.add_machine, machine.check_machine, lambda: open_device("qemu-arm64")):
        with pytest.raises(MissingComponentError, match=r"qemu-aarch64 .*: sudo apt-get install qemu-user$"):
            call()
    row = qemu_row()
    assert (row.executes, row.fix) == ("no", "sudo apt-get install qemu-user") and "missing" in row.note


def test_before_it_is_added_its_command_is_named(tools: Path, cache: Path) -> None:
    with pytest.raises(
        MissingComponentError, match=r"arm64 system, core models, numpy.*: levit-edge device add qemu-arm64$"
    ):
        open_device("qemu-arm64:a53")
    row = qemu_row()
    assert (row.executes, row.fix) == ("no", "levit-edge device add qemu-arm64")
    assert "executorch==1.3.1" in row.note and not cache.exists()


def test_when_everything_is_there_it_opens(tools: Path, cache: Path) -> None:
    _complete(cache)
    device = open_device("qemu-arm64")
    assert device.name == "qemu-arm64:cortex-a76"
    assert device.runtime("onnx").startswith("onnxruntime-cpu ")
    assert device.runtime("executorch") == "executorch-xnnpack 1.3.1 on qemu-arm64:cortex-a76"
    with pytest.raises(InputError, match="does not run coreml bundles; it runs: executorch, onnx"):
        device.runtime("coreml")
    row = qemu_row()
    assert row.executes == "yes" and "cannot be counted yet" in row.note and row.fix == machine.ADD
    plugin.plugin_path(emulator.find_emulator()).touch()
    assert qemu_row().fix == "" and "cortex-a76" in qemu_row().note


def test_another_version_of_onnx_runtime_here_wants_another_machine(
    tools: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _complete(cache)
    monkeypatch.setattr(wheels.metadata, "version", lambda name: "9.9.9")
    assert machine.missing_parts() == ("onnxruntime==9.9.9",)


@pytest.mark.parametrize("core", ["a53", "a72"])
def test_an_old_core_runs_onnx_only_and_says_why(core: str, tools: Path, cache: Path) -> None:
    _complete(cache)
    device = open_device(f"qemu-arm64:{core}")
    assert device.runtime("onnx").endswith(f"qemu-arm64:cortex-{core}")
    with pytest.raises(InputError, match=r"atomic instructions of Armv8\.1; cores .*: cortex-a76, neoverse-n1$"):
        device.runtime("executorch")


def test_it_needs_linux(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(InputError, match="needs a Linux host"):
        machine.add_machine()
    assert qemu_row().executes == "no" and qemu_row().fix == ""


@pytest.mark.parametrize(("tool", "command"), [("apt-get", "install apt"), ("dpkg-deb", "install dpkg")])
def test_without_the_debian_tools_their_command_is_named(tool: str, command: str, tools: Path, cache: Path) -> None:
    (tools / tool).unlink()
    with pytest.raises(MissingComponentError, match=f"{tool} .*{command}"):
        machine.add_machine()


def test_without_the_keys_of_debian_nothing_is_fetched(
    tools: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(debian, "KEYRING", tmp_path / "absent.gpg")
    with pytest.raises(MissingComponentError, match=r"absent\.gpg .*install debian-archive-keyring"):
        machine.add_machine()


def test_without_pip_its_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(MissingComponentError, match="-m ensurepip"):
        wheels.check_pip()


def test_what_apt_says_is_passed_on_in_one_line(
    tools: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(debian, "KEYRING", tmp_path)
    _script(tools / "apt-get", "echo W: nothing >&2; echo E: no such host >&2; echo E: more >&2; exit 100")
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    with pytest.raises(InputError, match=r"^apt-get could not make the arm64 system: E: no such host; check") as caught:
        machine.add_machine("http://nowhere.invalid/debian")
    assert "\n" not in str(caught.value)
    assert not (cache / "apt").exists() and "arm64 system" in machine.missing_parts()


def test_the_private_apt_knows_nothing_of_the_host(cache: Path, tmp_path: Path) -> None:
    environment = debian._apt(tmp_path / "apt", "http://mirror.invalid/debian")
    text = Path(environment["APT_CONFIG"]).read_text(encoding="utf-8")
    assert 'Dir::Etc::SourceParts "/dev/null"' in text and f'Dir::State::status "{tmp_path}/apt/status"' in text
    sources = (tmp_path / "apt" / "etc" / "debian.sources").read_text(encoding="utf-8")
    assert "URIs: http://mirror.invalid/debian\n" in sources and f"Signed-By: {debian.KEYRING}" in sources


def test_wheels_of_another_hash_are_refused_and_deleted(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def download(kept: Path, part: wheels.Wheels) -> None:
        (kept / "numpy-2.3.5.whl").write_bytes(b"something else")

    monkeypatch.setattr(wheels, "_download", download)
    with pytest.raises(InputError, match="are not the expected ones"):
        wheels.fetch_wheels(tmp_path, wheels.NUMPY)
    assert not list((cache / "wheels").rglob("*.whl"))


def test_wheels_kept_for_another_version_are_not_unpacked(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def download(kept: Path, part: wheels.Wheels) -> None:
        with zipfile.ZipFile(kept / f"{part.requirements[0]}.whl", "w") as archive:
            archive.writestr(part.requirements[0], "content")

    monkeypatch.setattr(wheels, "_download", download)
    for version in ("1", "2"):
        folder = tmp_path / version
        files = wheels.fetch_wheels(folder, wheels.Wheels("onnxruntime", (f"onnxruntime=={version}",)))
        assert list(files) == [f"onnxruntime=={version}.whl"]
        assert [path.name for path in folder.iterdir()] == [f"onnxruntime=={version}"]
    wheels.forget_wheels()
    assert not list(cache.rglob("*.whl"))


def test_doctor_has_a_row_without_onnx_runtime(tools: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise wheels.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(wheels.metadata, "version", version)
    row = qemu_row()
    assert (row.executes, row.fix) == ("no", "pip install onnxruntime") and "onnxruntime is missing" in row.note


def test_a_cache_that_cannot_be_made_is_one_line(tools: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    monkeypatch.setattr(debian, "KEYRING", tmp_path / "file")
    with pytest.raises(InputError, match="a file stands where a folder is needed"):
        machine.add_machine()


def test_what_pip_says_is_passed_on_in_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(
        InputError, match=r"^pip could not fetch nothing==1 for aarch64: ERROR: Could not find"
    ) as error:
        wheels.fetch_wheels(tmp_path, wheels.Wheels("nothing", ("nothing==1",)))
    assert "\n" not in str(error.value)


def test_without_a_compiler_nothing_is_counted(tools: Path, cache: Path) -> None:
    with pytest.raises(MissingComponentError, match=r"C compiler, for counting instructions.*install gcc"):
        plugin.ensure_plugin(emulator.find_emulator(), [])


def test_an_emulator_that_takes_no_plugins_is_named(tools: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.defpath}")
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    with pytest.raises(
        MissingComponentError, match=r"a qemu-aarch64 that takes plugins \(it says: nothing, exit code 0\)"
    ):
        plugin.ensure_plugin(emulator.find_emulator(), [])
    assert not list(cache.glob("count-*"))


def test_removing_frees_the_disk(tools: Path, cache: Path) -> None:
    assert remove_device(NAME).freed_bytes == 0
    make_part("numpy", ("numpy==1",), lambda folder: {"x": str((folder / "x").write_bytes(b"12345"))})
    assert remove_device(NAME).freed_bytes >= 5
    assert not cache.exists() and remove_device(NAME).freed_bytes == 0
