"""Gate ``device_instructions_m``: how many million instructions one inference may take on a device that counts."""

from __future__ import annotations

from collections.abc import Iterator

from levit_edge.gates.gate import Figures, Gate, Positive, at_most, undecided
from levit_edge.report.gate_result import GateResult

NAME = "device_instructions_m"


def check(figures: Figures, limit: float) -> Iterator[GateResult]:
    """One result for each device that was asked for."""
    for device, found in figures.devices.items():
        if found.instructions is None:
            yield undecided(NAME, limit, f"{device} counted no instructions")
        else:
            yield at_most(NAME, found.instructions.instructions / 1e6, limit, f"{found.instructions.runtime}")


DEVICE_INSTRUCTIONS = Gate(
    name=NAME,
    limit="max_device_instructions_m",
    bounds=Positive,
    help="million instructions of one inference on a device that counts",
    figure="instructions",
    check=check,
    per_device=True,
)
