"""``levit-edge device``: adding what a device needs, and removing it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from levit_edge.cli.console import emit, emit_json
from levit_edge.cli.quiet_stdout import working
from levit_edge.cli.verb import DONE, JSON, epilog
from levit_edge.devices import add_device, add_help, addable, remove_device

if TYPE_CHECKING:
    from levit_edge.report.answers import AddedDevice

app = typer.Typer(
    name="device",
    help="Add and remove devices; doctor shows which are there.",
    epilog=epilog((f"levit-edge device add {addable()[0]}",)),
    no_args_is_help=False,
    rich_markup_mode=None,
)

DeviceName = Annotated[str, typer.Argument(metavar="DEVICE", help=f"{', '.join(addable())}.")]
Mirror = Annotated[str | None, typer.Option(metavar="URL", help="Mirror to fetch the device's system from.")]

ADD_HELP = f"""Install what a device needs in the user's cache folder ($LEVIT_EDGE_CACHE moves it).

What is there already is kept. {add_help()}
"""


@app.command(help=ADD_HELP, epilog=epilog((f"levit-edge device add {addable()[0]}",)))
def add(device: DeviceName, mirror: Mirror = None, as_json: JSON = False) -> int:
    """Install what a device needs."""
    with working() as progress:
        added = add_device(device, mirror, progress)
    emit_json(added) if as_json else emit(*show_added(added))
    return DONE


@app.command(epilog=epilog((f"levit-edge device remove {addable()[0]}",)))
def remove(device: DeviceName, as_json: JSON = False) -> int:
    """Delete what was installed for a device."""
    removed = remove_device(device)
    text = f"{device}: {removed.freed_bytes / 1e6:.0f} MB freed" if removed.freed_bytes else f"{device} was not there"
    emit_json(removed) if as_json else emit(text)
    return DONE


def show_added(device: AddedDevice) -> Iterator[str]:
    """Where the machine is, what is in it, and what it cannot do."""
    packages = ", ".join(f"{name} {version}" for name, version in device.versions.items())
    yield f"{device.name}: {device.folder} ({device.size_bytes / 1e6:.0f} MB)"
    yield f"{device.name}: {packages}"
    if device.note:
        yield f"warning: {device.name}: {device.note}"
