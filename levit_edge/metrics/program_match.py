"""Does a model file hold the constants of the program it was lowered from, and compute its layers?"""

from __future__ import annotations

from pydantic import Field

from levit_edge.record import Record


class ProgramMatch(Record):
    """How many constants and layers of a model file were compared with its program, and what differs.

    ``departures`` has one line for each difference, constants before layers, in the order of execution; each starts
    with the name of the layer in the program. It is empty for a file that is its program.
    """

    constants: int = Field(ge=0)
    layers: int = Field(ge=0)
    departures: tuple[str, ...] = ()
