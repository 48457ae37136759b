"""Gate ``speedup``: how many times faster than its float reference the built model must be on this host.

Only int8 is expected to be faster on the host that builds: the 16-bit recipes pay off on a phone's own accelerator.
"""

from __future__ import annotations

from collections.abc import Iterator

from levit_edge.gates.gate import Figures, Gate, Positive, not_applicable, undecided
from levit_edge.gates.sampled import judge_speedup
from levit_edge.report.gate_result import GateResult

NAME = "speedup"


def check(figures: Figures, limit: float) -> Iterator[GateResult]:
    """Judges the interval of the paired ratio; does not apply where this host cannot run the file."""
    if figures.latency is not None:
        yield judge_speedup(NAME, figures.latency, limit)
    elif figures.executed is False:
        yield not_applicable(NAME, limit, "the runtime of this target does not run on this host")
    else:
        yield undecided(NAME, limit, "latency was not measured")


SPEEDUP = Gate(
    name=NAME,
    limit="min_speedup",
    bounds=Positive,
    help="time of the float reference over time of the built model, on this host",
    defaults={"int8": 1.0, "w8a16": None, "fp16": None, "fp32": None},
    figure="latency",
    check=check,
)
