"""Whether a model file is its program: which constants and layers were compared, and which depart."""

from __future__ import annotations

from pydantic import Field

from levit_edge.record import Record


class ProgramMatch(Record):
    """``constants`` and ``layers`` of a model file were compared with its program; ``departures`` says which differ.

    A departure names the constant or the layer and what is wrong with it, constants before layers.
    """

    constants: int = Field(ge=0)
    layers: int = Field(ge=0)
    departures: tuple[str, ...] = ()
