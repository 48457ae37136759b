"""Running model files in the emulated machine: one process for each plan, which says what to run on which images."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Queue
from threading import Lock
from typing import IO, Literal

from levit_edge.devices.qemu import NAME
from levit_edge.devices.qemu.cpus import Cpu
from levit_edge.devices.qemu.debian import PYTHON
from levit_edge.devices.qemu.folder import CORES, SYSTEM, part_path
from levit_edge.errors import InputError, LevitEdgeError, MissingComponentError

log = logging.getLogger(__name__)

EMULATOR = "qemu-aarch64"
INSTALL_EMULATOR = "sudo apt-get install qemu-user"
GUEST = Path(__file__).with_name("guest.py")
SIGNALLED = 128  # exit codes above this are signals: 128 + number, as a shell reports a child that a signal ended
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGABRT)

# Nothing of the host's environment: its size moves the guest's memory, and that changes what is executed.
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


@dataclass(frozen=True)
class Plan:
    """What one guest process does; see guest.py.

    Where ``runs`` is 0 it answers the images of its share: number ``worker``, ``worker + workers`` and so on. Otherwise
    it runs that many inferences of the first image, to be counted. ``site`` are the folders with the packages, that of
    ``runtime`` first.
    """

    runtime: str
    model: str
    images: str
    out: str
    site: tuple[str, ...]
    worker: int = 0
    workers: int = 1
    runs: int = 0


def find_emulator() -> Path:
    """The emulator on PATH. InputError where the host is not Linux, MissingComponentError where it is not installed."""
    if sys.platform != "linux":
        raise InputError(f"{NAME} emulates Linux programs and needs a Linux host; valid here: local")
    found = shutil.which(EMULATOR)
    if found is None:
        raise MissingComponentError(EMULATOR, INSTALL_EMULATOR)
    return Path(found).resolve()


def guest_command(cpu: Cpu, arguments: Sequence[str]) -> list[str]:
    """Arguments for the emulator: that core, its root, and Python with ``arguments``."""
    prefix = part_path(CORES) / cpu.name
    return ["-cpu", cpu.name, "-L", str(prefix), str(prefix / "usr" / "bin" / PYTHON), "-s", *arguments]


def guest_environment(*, write_bytecode: bool = False) -> dict[str, str]:
    """The whole environment of a guest. Python writes its bytecode only while the machine is made."""
    home = {"PYTHONHOME": str(part_path(SYSTEM) / "usr")}
    return _ENVIRONMENT | home | ({} if write_bytecode else {"PYTHONDONTWRITEBYTECODE": "1"})


def run_guests(cpu: Cpu, plans: Sequence[Plan], plugin: Path | None = None) -> Generator[None, None, None]:
    """Run all plans at the same time; yields once for each image that any of them finishes.

    A guest that crashes is started once more, because user-mode emulation of a threaded runtime is not perfect.
    Raises LevitEdgeError with the last line a guest wrote as soon as one fails. Closing the iterator ends all guests.
    """
    guests = Guests(cpu, plugin)
    with ThreadPoolExecutor(len(plans)) as pool:
        try:
            for plan in plans:
                pool.submit(guests.run, plan)
            for _ in plans:
                while (event := guests.events.get()) is True:
                    yield
                if event is not None:
                    raise event
        finally:
            guests.stop()


class Guests:
    """The processes of one run.

    ``events`` gets True for each image and, at the end of a guest, None or its failure.
    """

    def __init__(self, cpu: Cpu, plugin: Path | None) -> None:
        self.events: Queue[BaseException | Literal[True] | None] = Queue()
        self._cpu, self._plugin = cpu, plugin
        self._lock, self._stopped = Lock(), False
        self._processes: list[subprocess.Popen[str]] = []

    def stop(self) -> None:
        """End every guest; none starts after this."""
        with self._lock:
            self._stopped = True
            for process in self._processes:
                process.kill()

    def run(self, plan: Plan) -> None:
        """One plan from start to end, on the calling thread."""
        try:
            self._run(plan)
        except BaseException as failure:  # it is raised where the events are read  # noqa: BLE001
            self.events.put(failure)
        else:
            self.events.put(None)

    def _run(self, plan: Plan) -> None:
        name, done = Path(plan.model).name, set[str]()
        for last in (False, True):
            code, words = self._attempt(plan, done)
            if code == 0 or self._stopped:
                return
            crashed = -code in CRASHES or code - SIGNALLED in CRASHES
            if last or not crashed:
                reason = _reason(code, words)
                raise LevitEdgeError(f"{name} failed on {NAME}:{self._cpu.name}: {reason}")
            log.warning("%s: the emulator crashed (%s); it is started once more", name, _reason(code, []))

    def _attempt(self, plan: Plan, done: set[str]) -> tuple[int, list[str]]:
        """Run one process; (exit code, lines of its standard error). ``done`` are the images already reported."""
        with tempfile.TemporaryFile("w+") as words:
            process = self._start(plan, words)
            if process is None:
                return 0, []
            with process:
                assert process.stdout is not None
                for line in process.stdout:
                    if line.startswith("done ") and line not in done:
                        done.add(line)
                        self.events.put(True)
            words.seek(0)
            return process.returncode, words.read().strip().splitlines()

    def _start(self, plan: Plan, words: IO[str]) -> subprocess.Popen[str] | None:
        """The process, in a session of its own: a Ctrl-C is for levit-edge, which then ends its guests."""
        options = [] if self._plugin is None else ["-plugin", plugin_option(self._plugin, f"{plan.out}.blocks")]
        command = [str(find_emulator()), *options, *guest_command(self._cpu, [str(GUEST), json.dumps(asdict(plan))])]
        with self._lock:
            if self._stopped:
                return None
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=words,
                text=True,
                env=guest_environment(),
                start_new_session=True,
            )
            self._processes.append(process)
        return process


def plugin_option(plugin: Path, out: Path | str) -> str:
    """The value of QEMU's -plugin; it splits at commas that are not doubled."""
    return ",out=".join(str(path).replace(",", ",,") for path in (plugin, out))


def _reason(code: int, words: list[str]) -> str:
    number = -code if code < 0 else code - SIGNALLED
    if code < 0 or number in CRASHES or number == signal.SIGKILL:
        text = f"ended by {signal.Signals(number).name}"
        return f"{text}; is there enough memory?" if number == signal.SIGKILL else text
    return words[-1] if words else f"exit code {code}"
