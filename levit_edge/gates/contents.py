"""Gates on what runs where: delegates, fused int8 operators, and operators that stay float or fall back.

They have no default limits, because the numbers are those of one model and target. A baseline compares them too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from levit_edge.gates.gate import Count, Figures, Gate, at_least, at_most, not_applicable, undecided
from levit_edge.report.gate_result import GateResult


def _gate(name: str, limit_name: str, compare: Callable[[str, float, float], GateResult], text: str) -> Gate:
    def check(figures: Figures, limit: int) -> Iterator[GateResult]:
        if figures.delegation is None:
            yield undecided(name, limit, "the report does not say what runs where")
        elif (value := getattr(figures.delegation, name)) is None:
            yield not_applicable(name, limit, "the runtime of this target has no delegates")
        else:
            yield compare(name, value, limit)

    return Gate(
        name=name,
        limit=limit_name,
        bounds=Count,
        help=text,
        figure="contents",
        check=check,
    )


DELEGATES = _gate("delegates", "max_delegates", at_most, "parts that the runtime hands to a delegate")
INT8_OPS = _gate("int8_ops", "min_int8_ops", at_least, "operators that compute in int8")
FLOAT_OPS = _gate("float_ops", "max_float_ops", at_most, "operators that compute in float")
FALLBACK_OPS = _gate("fallback_ops", "max_fallback_ops", at_most, "operators left to slow reference kernels")
