"""Every gate on the figures of one bundle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from levit_edge.gates.gate import Figures, Gate
from levit_edge.gates.registry import GATES
from levit_edge.gates.resolve_limits import Limits
from levit_edge.report.gate_result import GateResult


def check(figures: Figures, limits: Limits) -> tuple[GateResult, ...]:
    """The results of all gates that have a limit and whose figure was asked for, in the order of the registry."""
    asked = [gate for gate in GATES.values() if gate.figure in figures.asked]
    return tuple(result for gate in asked for result in _results(gate, figures, limits))


def _results(gate: Gate, figures: Figures, limits: Limits) -> Iterator[GateResult]:
    if not gate.per_device:
        if (limit := limits.of(gate)) is not None:
            yield from gate.check(figures, limit)
        return
    for device, found in figures.devices.items():
        if (limit := limits.of(gate, device)) is not None:
            for result in gate.check(replace(figures, devices={device: found}), limit):
                yield result.model_copy(update={"device": device})
