"""The ARM cores that can be emulated, and what Linux tells a program about each of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from levit_edge.devices.qemu import NAME
from levit_edge.errors import InputError

_BASE = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_DOT_PRODUCT = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs"


@dataclass(frozen=True)
class Cpu:
    """A core that QEMU knows by ``name``.

    The runtimes choose kernels by ``midr`` (the Main ID Register of the Arm Architecture Reference Manual: implementer,
    variant, part, revision; the values are those of QEMU's models) and by ``features``, as Linux lists them in
    /proc/cpuinfo.
    """

    name: str
    midr: int
    features: str
    used_in: str

    @property
    def has_atomics(self) -> bool:
        """Whether it has the atomic instructions of Armv8.1 (FEAT_LSE)."""
        return "atomics" in self.features.split()

    @property
    def cpuinfo(self) -> str:
        """The text of /proc/cpuinfo on a machine with one such core."""
        rows = {
            "processor": "0",
            "BogoMIPS": "100.00",
            "Features": self.features,
            "CPU implementer": f"0x{self.midr >> 24:02x}",
            "CPU architecture": "8",
            "CPU variant": f"0x{self.midr >> 20 & 0xF:x}",
            "CPU part": f"0x{self.midr >> 4 & 0xFFF:03x}",
            "CPU revision": f"{self.midr & 0xF}",
        }
        return "".join(f"{key}\t: {value}\n" for key, value in rows.items()) + "\n"


CPUS = (
    Cpu("cortex-a53", 0x410FD034, _BASE, "Raspberry Pi 3"),
    Cpu("cortex-a72", 0x410FD083, _BASE, "Raspberry Pi 4"),
    Cpu("cortex-a76", 0x414FD0B1, _DOT_PRODUCT, "Raspberry Pi 5"),
    Cpu("neoverse-n1", 0x414FD0C1, _DOT_PRODUCT, "AWS Graviton 2, Ampere Altra"),
)
DEFAULT_CPU = "cortex-a76"


def cpu_names() -> tuple[str, ...]:
    """The names of all cores."""
    return tuple(cpu.name for cpu in CPUS)


def cpu_model(name: str) -> Cpu:
    """The core called ``name`` (``a76`` means ``cortex-a76``); InputError with the valid names for any other."""
    for cpu in CPUS:
        if name in (cpu.name, cpu.name.removeprefix("cortex-")):
            return cpu
    raise InputError(f"unknown CPU model {name!r} of {NAME}; valid: {', '.join(cpu_names())}")


def write_prefix(prefix: Path, system: Path, cpu: Cpu) -> None:
    """Make ``prefix`` the root of a machine with one ``cpu``: links into ``system``, and its own /proc and /sys.

    Without these files a program under user-mode emulation reads those of the host, recognizes no ARM core, and falls
    back to its slowest kernels. The links are relative, so that both folders can move together.
    """
    files = {
        "proc/cpuinfo": cpu.cpuinfo,
        "sys/devices/system/cpu/cpu0/regs/identification/midr_el1": f"0x{cpu.midr:016x}\n",
        "sys/devices/system/cpu/possible": "0\n",
        "sys/devices/system/cpu/present": "0\n",
        "sys/devices/system/cpu/online": "0\n",
    }
    for name, text in files.items():
        (prefix / name).parent.mkdir(parents=True, exist_ok=True)
        (prefix / name).write_text(text, encoding="utf-8")
    for entry in system.iterdir():
        (prefix / entry.name).symlink_to(os.path.relpath(entry, prefix), target_is_directory=entry.is_dir())
