"""Every gate on the figures of one bundle."""

from __future__ import annotations

from levit_edge.gates.gate import Figures
from levit_edge.gates.registry import GATES
from levit_edge.gates.resolve_limits import Limits
from levit_edge.report.schema import GateResult


def check(figures: Figures, limits: Limits, classes: int | None = None) -> tuple[GateResult, ...]:
    """The results of all gates that have a limit and whose figure was asked for, in the order of the registry.

    ``classes`` is the model's number of classes, which tells whether the float model does better than guessing.
    """
    results: list[GateResult] = []
    for gate in GATES.values():
        limit = limits.get(gate.limit)
        if limit is not None and gate.figure in figures.asked:
            results.extend(gate.check(figures, limit, classes))
    return tuple(results)
