"""From what the command line was given to a device, and to what can be said and done about it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

from levit_edge.devices.device import LOCAL, Device
from levit_edge.devices.qemu import debian, machine, plugin
from levit_edge.devices.qemu.cpus import DEFAULT_CPU, cpu_model, cpu_names
from levit_edge.devices.qemu.emulator import find_emulator
from levit_edge.errors import InputError, MissingComponentError
from levit_edge.progress import QUIET, Progress
from levit_edge.report.answers import AddedDevice, DoctorRow

QEMU = "qemu-arm64"


def open_device(name: str) -> Device | None:
    """The device called ``name``, ready to run; None for this machine itself.

    Raises InputError for a name that is no device, MissingComponentError where something must be installed or added
    first.
    """
    kind, colon, model = name.partition(":")
    if name == LOCAL:
        return None
    if kind != QEMU or (colon and not model):
        valid = ", ".join(f"{QEMU}:{cpu}" for cpu in cpu_names())
        raise InputError(f"device {name!r} is not supported by this version; valid: {LOCAL}, {QEMU}, {valid}")
    cpu = cpu_model(model or DEFAULT_CPU)
    machine.check_machine()
    from levit_edge.devices.qemu.device import EmulatedDevice

    return EmulatedDevice(cpu)


def add_qemu(mirror: str | None = None, progress: Progress = QUIET) -> AddedDevice:
    """Make the emulated machine, or complete it. ``mirror`` is the Debian mirror to use.

    Raises MissingComponentError and InputError as :func:`machine.add_machine` does.
    """
    made = machine.add_machine(mirror or debian.DEFAULT_MIRROR, progress)
    return AddedDevice(
        name=QEMU, folder=str(made.folder), versions=made.versions, size_bytes=made.size_bytes, note=made.no_count
    )


def remove_qemu() -> int:
    """Delete the emulated machine; gives the bytes that this freed."""
    return machine.remove_machine()


def qemu_row() -> DoctorRow:
    """Whether the emulated machine works here, and the command for what is missing."""
    try:
        emulator, packages = find_emulator(), dict[str, str | None](machine.versions())
    except PackageNotFoundError as error:  # the machine has the version that is installed here
        fix = f"pip install {error.name}"
        return DoctorRow(name=QEMU, kind="device", executes="no", note=f"{error.name} is missing", fix=fix)
    except MissingComponentError as error:
        return DoctorRow(
            name=QEMU, kind="device", executes="no", note=f"{error.component} is missing", fix=error.command
        )
    except InputError as error:
        return DoctorRow(name=QEMU, kind="device", executes="no", note=str(error))
    if absent := machine.missing_parts():
        note = f"not added, or not complete: {', '.join(absent)}"
        return DoctorRow(name=QEMU, kind="device", executes="no", note=note, fix=machine.ADD)
    note = f"{', '.join(cpu_names())}; {', '.join(f'{name} {version}' for name, version in packages.items())}"
    if plugin.plugin_path(emulator).is_file():
        return DoctorRow(name=QEMU, kind="device", executes="yes", packages=packages, note=note)
    note += "; instructions cannot be counted yet"
    return DoctorRow(name=QEMU, kind="device", executes="yes", packages=packages, note=note, fix=machine.ADD)
