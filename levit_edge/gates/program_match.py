"""Gate ``program_departures``: the model file holds the constants of its program, and each layer computes the same."""

from __future__ import annotations

from collections.abc import Iterator

from levit_edge.gates.gate import BASES, Count, Figures, Gate, at_most, undecided
from levit_edge.report.gate_result import GateResult

NAME = "program_departures"


def check(figures: Figures, limit: int) -> Iterator[GateResult]:
    """Fails when more constants and layers than ``limit`` depart from the program; the note names the first."""
    found = figures.program_match
    if found is None or not (found.layers or found.departures):
        yield undecided(NAME, limit, "the layers of the file were not compared with its program")
    elif not found.layers:  # nothing else was compared, so the limit does not excuse it
        yield at_most(NAME, len(found.departures), 0, found.departures[0])
    else:
        compared = f"{found.constants} constants and {found.layers} layers compared"
        note = f"{found.departures[0]}; {compared}" if found.departures else compared
        yield at_most(NAME, len(found.departures), limit, note)


PROGRAM_MATCH = Gate(
    name=NAME,
    limit="max_program_departures",
    bounds=Count,
    help="constants and layers of the model file that are not those of its program",
    defaults=dict.fromkeys(BASES, 0),
    figure="program match",
    check=check,
)
