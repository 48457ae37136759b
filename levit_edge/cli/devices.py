"""``levit-edge device``: adding and removing the machines that this one can emulate."""

from __future__ import annotations

from typing import Annotated

import typer

from levit_edge.cli import options as opt
from levit_edge.cli.verbs import DONE
from levit_edge.cli.working import working
from levit_edge.errors import InputError

app = typer.Typer(
    name="device",
    help="Add and remove emulated devices; doctor shows which are there.",
    epilog="\b\nExample:\n  levit-edge device add qemu-arm64",
    no_args_is_help=False,
    rich_markup_mode=None,
)

DeviceName = Annotated[str, typer.Argument(metavar="DEVICE", help="qemu-arm64.")]
Mirror = Annotated[str | None, typer.Option(metavar="URL", help="Debian mirror to fetch the arm64 system from.")]


@app.command(epilog="\b\nExample:\n  levit-edge device add qemu-arm64")
def add(device: DeviceName, mirror: Mirror = None, as_json: opt.AsJson = False) -> int:
    """Prepare an emulated machine in the user's cache folder ($LEVIT_EDGE_CACHE moves it).

    Fetches a small arm64 Debian system and the aarch64 builds of the runtimes, verifies them, and compiles the
    counter of instructions. Needs no root; what is there already is kept.
    """
    _check(device)
    with working() as progress:
        from levit_edge.devices import add_qemu

        machine = add_qemu(mirror, progress)
    from levit_edge.cli import console, view

    console.emit_json(machine) if as_json else console.emit(*view.added_device(machine))
    return DONE


@app.command(epilog="\b\nExample:\n  levit-edge device remove qemu-arm64")
def remove(device: DeviceName, as_json: opt.AsJson = False) -> int:
    """Delete an emulated machine."""
    _check(device)
    from levit_edge.cli import console
    from levit_edge.devices import remove_qemu
    from levit_edge.report.answers import RemovedDevice

    removed = RemovedDevice(name=device, freed_bytes=remove_qemu())
    text = f"{device}: {removed.freed_bytes / 1e6:.0f} MB freed" if removed.freed_bytes else f"{device} was not there"
    console.emit_json(removed) if as_json else console.emit(text)
    return DONE


def _check(device: str) -> None:
    if device != "qemu-arm64":
        raise InputError(f"device {device!r} cannot be added or removed; valid: qemu-arm64 (one for all CPU models)")
