"""What the registry of devices has to know of the emulated machine."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from typing import TYPE_CHECKING

from levit_edge.devices.device import Device
from levit_edge.devices.qemu import NAME
from levit_edge.devices.qemu.cpus import DEFAULT_CPU, cpu_model, cpu_names
from levit_edge.errors import InputError, MissingComponentError
from levit_edge.progress import Progress

if TYPE_CHECKING:  # the help names the device; what runs it is imported when it is used
    from levit_edge.report.answers import AddedDevice, DoctorRow

ADD_HELP = (
    f"{NAME}: a small arm64 Debian system and the aarch64 builds of the runtimes, about 650 MB, all verified, and the "
    "counter of instructions, which is compiled here. It needs no root."
)


def valid_names() -> tuple[str, ...]:
    """Every name that opens an emulated processor."""
    return NAME, *(f"{NAME}:{cpu}" for cpu in cpu_names())


def open_cpu(model: str) -> Device:
    """The emulated processor called ``model``, DEFAULT_CPU where that is empty.

    Raises InputError for a processor that is unknown, and MissingComponentError where the emulator or a part of the
    machine is missing.
    """
    from levit_edge.devices.qemu import machine
    from levit_edge.devices.qemu.device import EmulatedDevice

    cpu = cpu_model(model or DEFAULT_CPU)
    machine.check_machine()
    return EmulatedDevice(cpu)


def add(mirror: str | None, progress: Progress) -> AddedDevice:
    """Make the emulated machine, or complete it. ``mirror`` is the Debian mirror, DEFAULT_MIRROR where that is None.

    Raises MissingComponentError and InputError as :func:`machine.add_machine` does.
    """
    from levit_edge.devices.qemu import debian, machine
    from levit_edge.report.answers import AddedDevice

    made = machine.add_machine(mirror or debian.DEFAULT_MIRROR, progress)
    return AddedDevice(
        name=NAME, folder=str(made.folder), versions=made.versions, size_bytes=made.size_bytes, note=made.no_count
    )


def remove() -> int:
    """Delete the emulated machine; gives the bytes that this freed."""
    from levit_edge.devices.qemu import machine

    return machine.remove_machine()


def row() -> DoctorRow:
    """Whether the emulated machine works here, and the command for what is missing."""
    from levit_edge.devices.qemu import machine
    from levit_edge.devices.qemu.counting_plugin import plugin_path
    from levit_edge.devices.qemu.emulator import find_emulator
    from levit_edge.report.answers import DoctorRow

    try:
        emulator, versions = find_emulator(), machine.versions()
    except PackageNotFoundError as error:  # the machine takes the version of the package that is installed here
        return _does_not_run(f"{error.name} is missing", f"pip install {error.name}")
    except MissingComponentError as error:
        return _does_not_run(f"{error.component} is missing", error.command)
    except InputError as error:
        return _does_not_run(str(error))
    if absent := machine.missing_parts():
        return _does_not_run(f"not added, or not complete: {', '.join(absent)}", machine.ADD)
    note = f"{', '.join(cpu_names())}; {', '.join(f'{name} {version}' for name, version in versions.items())}"
    counts = plugin_path(emulator).is_file()
    return DoctorRow(
        name=NAME,
        kind="device",
        executes="yes",
        packages=dict(versions),
        note=note if counts else f"{note}; instructions cannot be counted yet",
        fix="" if counts else machine.ADD,
    )


def _does_not_run(note: str, fix: str = "") -> DoctorRow:
    from levit_edge.report.answers import DoctorRow

    return DoctorRow(name=NAME, kind="device", executes="no", note=note, fix=fix)
