"""The devices: one dict with a row for each kind. A device is its folder and its row here."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from levit_edge.devices.device import LOCAL, Device
from levit_edge.devices.qemu import NAME as QEMU
from levit_edge.devices.qemu import registration as qemu
from levit_edge.errors import InputError
from levit_edge.progress import QUIET, Progress

if TYPE_CHECKING:  # the help names the devices; what runs them is imported when one is used
    from levit_edge.report.answers import AddedDevice, DoctorRow, RemovedDevice


@dataclass(frozen=True)
class DeviceKind:
    """One kind of device, called ``NAME`` or ``NAME:MODEL`` on the command line.

    ``row`` is its line in the answer of doctor. ``help`` says in one phrase how to name it and what it is.
    ``open(model)`` gives the device, ready to run, for what follows the colon (empty without one); InputError for a
    model that it does not know. It is None for a kind that doctor knows but that runs no bundles. ``valid`` gives
    every name that opens one, for messages. ``add(mirror, progress)`` installs what the device needs, fetched from
    ``mirror`` where that is not None, and ``remove()`` deletes it and gives the bytes freed; both are None where
    nothing can be added, and ``add_help`` says what they deal with.
    """

    name: str
    row: Callable[[], DoctorRow]
    help: str = ""
    open: Callable[[str], Device] | None = None
    valid: Callable[[], tuple[str, ...]] = lambda: ()
    add: Callable[[str | None, Progress], AddedDevice] | None = None
    remove: Callable[[], int] | None = None
    add_help: str = ""


def _open_local(model: str) -> Device:
    if model:
        raise InputError(f"device '{LOCAL}:{model}' is unknown: {LOCAL} is one machine and has no models")
    from levit_edge.devices.local import LocalDevice

    return LocalDevice()


def _local_row() -> DoctorRow:
    from levit_edge.report.answers import DoctorRow

    return DoctorRow(name=LOCAL, kind="device", executes="yes", note=platform.machine())


def _not_run(name: str, linux: str, macos: str) -> DeviceKind:
    """A kind that is reached with the program ``name``, given the commands that install it; nothing runs there yet."""

    def row() -> DoctorRow:
        from levit_edge.report.answers import DoctorRow

        found = shutil.which(name) is not None
        note = f"{name} {'is' if found else 'is not'} installed; this version does not run bundles there"
        command = macos if platform.system() == "Darwin" else linux
        return DoctorRow(name=name, kind="device", executes="no", note=note, fix="" if found else command)

    return DeviceKind(name, row)


KINDS: dict[str, DeviceKind] = {
    kind.name: kind
    for kind in (
        DeviceKind(
            name=LOCAL,
            row=_local_row,
            help=LOCAL,
            open=_open_local,
            valid=lambda: (LOCAL,),
        ),
        DeviceKind(
            name=QEMU,
            row=qemu.row,
            help=f"an emulated ARM processor: {QEMU}[:CPU]",
            open=qemu.open_cpu,
            valid=qemu.valid_names,
            add=qemu.add,
            remove=qemu.remove,
            add_help=qemu.ADD_HELP,
        ),
        _not_run("ssh", linux="sudo apt-get install openssh-client", macos=""),
        _not_run("adb", linux="sudo apt-get install adb", macos="brew install --cask android-platform-tools"),
    )
}


def open_device(name: str) -> Device:
    """The device called ``name``, ready to run.

    Raises InputError for a name that is no device, and MissingComponentError where something must be installed or
    added first.
    """
    word, colon, model = name.partition(":")
    kind = KINDS.get(word)
    if kind is None or kind.open is None or (colon and not model):
        valid = ", ".join(name for kind in KINDS.values() for name in kind.valid())
        raise InputError(f"device {name!r} is not supported by this version; valid: {valid}")
    return kind.open(model)


def doctor_rows() -> tuple[DoctorRow, ...]:
    """What every kind of device says of itself; nothing is opened."""
    return tuple(kind.row() for kind in KINDS.values())


def device_help() -> str:
    """How the command line describes a device."""
    return ", or ".join(kind.help for kind in KINDS.values() if kind.open is not None)


def addable() -> tuple[str, ...]:
    """The names of the kinds that can be added and removed."""
    return tuple(kind.name for kind in KINDS.values() if kind.add is not None and kind.remove is not None)


def add_help() -> str:
    """What adding each of them installs."""
    return " ".join(kind.add_help for kind in KINDS.values() if kind.add is not None)


def add_device(name: str, mirror: str | None = None, progress: Progress = QUIET) -> AddedDevice:
    """Install what devices of the kind called ``name`` need; what is there already is kept.

    ``mirror`` is where to fetch it from instead of the usual place. Raises InputError for a kind that cannot be added
    and for what cannot be fetched, and MissingComponentError where a tool for it is absent.
    """
    kind = KINDS.get(name)
    if kind is None or kind.add is None:
        raise _not_addable(name)
    return kind.add(mirror, progress)


def remove_device(name: str) -> RemovedDevice:
    """Delete what :func:`add_device` installed; InputError for a kind that cannot be removed."""
    kind = KINDS.get(name)
    if kind is None or kind.remove is None:
        raise _not_addable(name)
    from levit_edge.report.answers import RemovedDevice

    return RemovedDevice(name=name, freed_bytes=kind.remove())


def _not_addable(name: str) -> InputError:
    valid = ", ".join(f"{kind} (one for all its CPUs)" for kind in addable())
    return InputError(f"device {name!r} cannot be added or removed; valid: {valid}")
