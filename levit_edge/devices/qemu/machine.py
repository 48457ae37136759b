"""Makes, checks and removes the emulated machine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from levit_edge.bundle.files import clear_os_errors
from levit_edge.devices.qemu import NAME, debian, wheels
from levit_edge.devices.qemu.counting_plugin import ensure_plugin
from levit_edge.devices.qemu.cpus import CPUS, DEFAULT_CPU, cpu_model, write_prefix
from levit_edge.devices.qemu.emulator import find_emulator, guest_command, guest_environment
from levit_edge.devices.qemu.folder import (
    CORES,
    SYSTEM,
    machine_folder,
    make_part,
    part_path,
    read_part,
    size_on_disk,
)
from levit_edge.errors import LevitEdgeError, MissingComponentError
from levit_edge.progress import QUIET, Progress

ADD = f"levit-edge device add {NAME}"

_SYSTEM_WANTED = (debian.SUITE, *debian.PACKAGES)
_CORES_WANTED = tuple(f"{cpu.name} {cpu.midr:#x} {cpu.features}" for cpu in CPUS)
_IMPORTS = {
    "numpy": "import numpy",
    "onnxruntime": "import onnxruntime; onnxruntime.get_available_providers()",
    "executorch": "import torch; import executorch",
}


@dataclass(frozen=True)
class Machine:
    """What ``add_machine`` made. ``no_count`` says why instructions cannot be counted, empty when they can."""

    folder: Path
    versions: dict[str, str]
    size_bytes: int
    no_count: str = ""


def add_machine(mirror: str = debian.DEFAULT_MIRROR, progress: Progress = QUIET) -> Machine:
    """Make the machine in the user's cache folder, or finish one whose making was interrupted.

    Raises MissingComponentError where the emulator, apt or pip is absent, and InputError when something cannot be
    fetched or is not what was expected.
    """
    emulator = find_emulator()
    debian.check_tools()
    wheels.check_pip()
    with _locked():
        with progress.step("arm64 system: Debian packages"):
            make_part(SYSTEM, _SYSTEM_WANTED, lambda folder: debian.fetch_system(folder, mirror))
            make_part(CORES, _CORES_WANTED, _write_cores)
        for part in wheels.all_wheels():
            with progress.step(f"{', '.join(part.requirements)} for aarch64"):
                make_part(part.name, part.wanted, _wheels_of(part, emulator))
        wheels.forget_wheels()
        no_count = ""
        with progress.step("plugin that counts instructions"):
            try:
                counting_plugin()
            except MissingComponentError as error:
                no_count = str(error)
    return Machine(machine_folder(), versions(), size_on_disk(machine_folder()), no_count)


def remove_machine() -> int:
    """Delete the machine; gives the bytes that this freed, 0 when there was none."""
    folder = machine_folder()
    if not folder.is_dir():
        return 0
    with _locked():
        freed = size_on_disk(folder)
        with clear_os_errors(folder):
            shutil.rmtree(folder)
    return freed


def missing_parts() -> tuple[str, ...]:
    """The parts that are absent, incomplete, or made for other versions than are installed here."""
    return tuple(_missing())


def check_machine() -> None:
    """MissingComponentError unless the emulator and every part of the machine is here."""
    find_emulator()
    if absent := missing_parts():
        raise MissingComponentError(f"{NAME} ({', '.join(absent)})", ADD)


def versions() -> dict[str, str]:
    """The package versions inside the machine."""
    names = [requirement for part in wheels.all_wheels() for requirement in part.requirements]
    return dict(name.split("==", 1) for name in names)


def site_folders(runtime: str) -> tuple[str, ...]:
    """The folders that hold what ``runtime`` imports: its own packages first."""
    return str(part_path(runtime)), str(part_path("numpy"))


def counting_plugin() -> Path:
    """The plugin for this emulator; MissingComponentError where it cannot be compiled or the emulator takes none."""
    return ensure_plugin(find_emulator(), guest_command(cpu_model(DEFAULT_CPU), ["-S", "-c", "pass"]))


def _missing() -> Iterator[str]:
    system = read_part(SYSTEM)
    if system is None or system.wanted != _SYSTEM_WANTED:
        yield "arm64 system"
    cores = read_part(CORES)
    if cores is None or cores.wanted != _CORES_WANTED:
        yield "core models"
    for part in wheels.all_wheels():
        found = read_part(part.name)
        if found is None or found.wanted != part.wanted:
            yield part.requirements[0]


def _write_cores(folder: Path) -> dict[str, str]:
    for cpu in CPUS:
        write_prefix(folder / cpu.name, part_path(SYSTEM), cpu)
    return {}


def _wheels_of(part: wheels.Wheels, emulator: Path) -> Callable[[Path], dict[str, str]]:
    def fill(folder: Path) -> dict[str, str]:
        files = wheels.fetch_wheels(folder, part)
        _prove(part.name, folder, emulator)
        return files

    return fill


def _prove(name: str, folder: Path, emulator: Path) -> None:
    """Import the packages in ``folder`` once in the machine, to see that they load and to write their bytecode."""
    paths = f"import sys; sys.path[:0] = {[str(folder), str(part_path('numpy'))]}; "
    command = [str(emulator), *guest_command(cpu_model(DEFAULT_CPU), ["-c", paths + _IMPORTS[name]])]
    environment = guest_environment(write_bytecode=True)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise LevitEdgeError(f"{name} does not load in the emulated machine: {words[-1]}")


@contextmanager
def _locked() -> Iterator[None]:
    """Let one process at a time change the machine; a second one waits, and then finds everything there."""
    folder = machine_folder()
    with ExitStack() as stack:
        with clear_os_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(folder.with_suffix(".lock")))
            folder.mkdir(exist_ok=True)
        yield
