"""The counting plugin: compiled once for the emulator that is installed, and tried before it is used."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from levit_edge.bundle.files import clear_os_errors
from levit_edge.devices.qemu.emulator import plugin_option
from levit_edge.devices.qemu.folder import machine_folder
from levit_edge.errors import MissingComponentError

SOURCE = Path(__file__).with_name("counting_plugin.c")
COMPILERS = ("cc", "gcc", "clang")
INSTALL_COMPILER = "sudo apt-get install gcc libc6-dev"
# QEMU refuses a plugin built for an interface version that it does not know; the plugin uses what all of these have.
_INTERFACE_VERSIONS = (1, 2, 3, 4, 5, 6)


def plugin_path(emulator: Path) -> Path:
    """Where the plugin for that emulator is kept; its name changes with the emulator and with the source."""
    stamp = emulator.stat()
    identity = f"{emulator} {stamp.st_size} {stamp.st_mtime_ns} ".encode() + SOURCE.read_bytes()
    return machine_folder() / f"count-{hashlib.sha256(identity).hexdigest()[:12]}.so"


def ensure_plugin(emulator: Path, trial: list[str]) -> Path:
    """The plugin, compiled if it is not there. ``trial`` is a guest program with its arguments, to try the plugin on.

    Raises MissingComponentError where there is no compiler or the emulator takes no plugins.
    """
    wanted = plugin_path(emulator)
    if wanted.is_file():
        return wanted
    compiler = next((path for name in COMPILERS if (path := shutil.which(name))), None)
    if compiler is None:
        raise MissingComponentError("a C compiler, for counting instructions,", INSTALL_COMPILER)
    said = ""
    with clear_os_errors(machine_folder()), tempfile.TemporaryDirectory(dir=machine_folder()) as folder:
        for version in _INTERFACE_VERSIONS:
            plugin = Path(folder, f"count-{version}.so")
            _compile(compiler, version, plugin)
            said = _try(emulator, plugin, Path(folder, "out.txt"), trial)
            if not said:
                plugin.replace(wanted)
                return wanted
    raise MissingComponentError(
        f"a qemu-aarch64 that takes plugins (it says: {said})", "sudo apt-get install qemu-user"
    )


def _compile(compiler: str, version: int, plugin: Path) -> None:
    command = [compiler, "-O2", "-shared", "-fPIC", "-fvisibility=hidden", f"-DPLUGIN_VERSION={version}"]
    done = subprocess.run([*command, "-o", str(plugin), str(SOURCE)], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        raise MissingComponentError(f"a working C compiler ({reason})", INSTALL_COMPILER)


def _try(emulator: Path, plugin: Path, out: Path, trial: list[str]) -> str:
    """Empty when the plugin works, else the last line that the emulator wrote."""
    out.unlink(missing_ok=True)
    command = [str(emulator), "-plugin", plugin_option(plugin, out), *trial]
    done = subprocess.run(command, capture_output=True, text=True, env={}, check=False)
    if done.returncode == 0 and out.is_file():
        return ""
    return (done.stderr.strip().splitlines() or [f"nothing, exit code {done.returncode}"])[-1]
