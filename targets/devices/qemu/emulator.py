"""Starting programs in the emulated machine: one model file per process, told what to do by a plan."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Queue

from levit_edge.errors import InputError, LevitEdgeError, MissingComponentError
from targets.devices.qemu.cpus import Cpu
from targets.devices.qemu.debian import PYTHON
from targets.devices.qemu.folder import CORES, SYSTEM, part_path

log = logging.getLogger(__name__)

EMULATOR = "qemu-aarch64"
INSTALL_EMULATOR = "sudo apt-get install qemu-user"
GUEST = Path(__file__).with_name("guest.py")
SIGNALLED = 128  # qemu-user ends as the guest did: above this, by a signal

# Nothing of the host's environment: what a guest finds there changes where its memory lies, and so what it executes.
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


@dataclass(frozen=True)
class Plan:
    """What one guest process does; see guest.py. ``runs`` of 0 answers the images, more counts that many inferences."""

    target: str
    model: str
    images: str
    out: str
    site: tuple[str, ...]
    worker: int = 0
    workers: int = 1
    runs: int = 0


def find_emulator() -> Path:
    """The emulator on PATH; MissingComponentError with the command that installs it."""
    if sys.platform != "linux":
        raise InputError("qemu-arm64 emulates Linux programs and needs a Linux host; valid here: local")
    found = shutil.which(EMULATOR)
    if found is None:
        raise MissingComponentError(EMULATOR, INSTALL_EMULATOR)
    return Path(found).resolve()


def guest_command(cpu: Cpu, arguments: Sequence[str]) -> list[str]:
    """Arguments for the emulator: that core, its root, and Python with ``arguments``."""
    prefix = part_path(CORES) / cpu.name
    return ["-cpu", cpu.name, "-L", str(prefix), str(prefix / "usr" / "bin" / PYTHON), "-s", *arguments]


def guest_environment(*, write_bytecode: bool = False) -> dict[str, str]:
    """The whole environment of a guest. Compiled modules are written once, when the machine is made."""
    home = {"PYTHONHOME": str(part_path(SYSTEM) / "usr")}
    return _ENVIRONMENT | home | ({} if write_bytecode else {"PYTHONDONTWRITEBYTECODE": "1"})


def run_guests(cpu: Cpu, plans: Sequence[Plan], plugin: Path | None = None) -> Iterator[None]:
    """Run all plans at the same time; yields once for each finished image of any of them.

    A guest that a signal ended is started once more, because user-mode emulation of a threaded runtime is not perfect.
    Raises LevitEdgeError with the guest's last words when one fails. Leaving early ends all guests.
    """
    events: Queue[bool] = Queue()  # True for an image, False for a guest that has ended
    guests: list[subprocess.Popen[str]] = []
    with ThreadPoolExecutor(len(plans)) as pool:
        try:
            runs = [pool.submit(_run_guest, cpu, plan, plugin, events, guests) for plan in plans]
            running = len(runs)
            while running:
                if events.get():
                    yield
                else:
                    running -= 1
            for run in runs:
                run.result()
        finally:
            for guest in guests:
                guest.kill()


def _run_guest(
    cpu: Cpu, plan: Plan, plugin: Path | None, events: Queue[bool], guests: list[subprocess.Popen[str]]
) -> None:
    try:
        for attempt in (1, 2):
            code, words = _attempt(cpu, plan, plugin, events, guests)
            if code == 0:
                return
            by_signal = code < 0 or code > SIGNALLED
            if attempt == 2 or not by_signal or -code in (signal.SIGKILL, signal.SIGTERM):
                reason = words[-1] if words else f"exit code {code}"
                raise LevitEdgeError(f"{Path(plan.model).name} failed on qemu-arm64:{cpu.name}: {reason}")
            log.warning("%s: the emulator crashed (exit code %d); it is started once more", Path(plan.model).name, code)
    finally:
        events.put(False)


def _attempt(
    cpu: Cpu, plan: Plan, plugin: Path | None, events: Queue[bool], guests: list[subprocess.Popen[str]]
) -> tuple[int, list[str]]:
    """One process; (exit code, lines it wrote to standard error)."""
    options = [] if plugin is None else ["-plugin", f"{plugin},out={plan.out}.blocks"]
    guest = guest_command(cpu, [str(GUEST), json.dumps(asdict(plan))])
    with tempfile.TemporaryFile("w+") as words:
        process = subprocess.Popen(
            [str(find_emulator()), *options, *guest],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=words,
            text=True,
            env=guest_environment(),
        )
        guests.append(process)
        with process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("done "):
                    events.put(True)
        words.seek(0)
        return process.returncode, words.read().strip().splitlines()
