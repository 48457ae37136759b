"""``levit-edge device``: adding what a device needs, and removing it."""

from __future__ import annotations

from typing import Annotated

import typer

from levit_edge.cli import options as opt
from levit_edge.cli.verbs import DONE
from levit_edge.cli.working import working
from levit_edge.devices import add_device, add_help, addable, remove_device

EXAMPLE = "\b\nExample:\n  levit-edge device {} " + addable()[0]

app = typer.Typer(
    name="device",
    help="Add and remove devices; doctor shows which are there.",
    epilog=EXAMPLE.format("add"),
    no_args_is_help=False,
    rich_markup_mode=None,
)

DeviceName = Annotated[str, typer.Argument(metavar="DEVICE", help=f"{', '.join(addable())}.")]
Mirror = Annotated[str | None, typer.Option(metavar="URL", help="Mirror to fetch the device's system from.")]

ADD_HELP = f"""Install what a device needs in the user's cache folder ($LEVIT_EDGE_CACHE moves it).

What is there already is kept. {add_help()}
"""


@app.command(help=ADD_HELP, epilog=EXAMPLE.format("add"))
def add(device: DeviceName, mirror: Mirror = None, as_json: opt.AsJson = False) -> int:
    """Install what a device needs."""
    with working() as progress:
        added = add_device(device, mirror, progress)
    from levit_edge.cli import output, view

    output.emit_json(added) if as_json else output.emit(*view.added_device(added))
    return DONE


@app.command(epilog=EXAMPLE.format("remove"))
def remove(device: DeviceName, as_json: opt.AsJson = False) -> int:
    """Delete what was installed for a device."""
    removed = remove_device(device)
    from levit_edge.cli import output

    text = f"{device}: {removed.freed_bytes / 1e6:.0f} MB freed" if removed.freed_bytes else f"{device} was not there"
    output.emit_json(removed) if as_json else output.emit(text)
    return DONE
