"""Gate ``agreement_pct``: on how many images the built model must give the float model's answer."""

from __future__ import annotations

from collections.abc import Iterator

from levit_edge.gates.chance import AT_CHANCE, agreement_limit, at_chance, too_few
from levit_edge.gates.gate import Figures, Gate, Percent, at_least, skipped
from levit_edge.report.schema import GateResult

NAME = "agreement_pct"


def check(figures: Figures, limit: float, classes: int | None) -> Iterator[GateResult]:
    """Fails when the agreement misses the limit by more than chance can cause; skipped for a model that guesses."""
    accuracy = figures.accuracy
    if accuracy is None:
        yield skipped(NAME, limit, "accuracy was not measured")
    elif at_chance(accuracy, classes):
        yield skipped(NAME, limit, AT_CHANCE)
    else:
        yield agreed(NAME, accuracy.agreement_pct, accuracy.n, limit, accuracy.source)


def agreed(name: str, agreement_pct: float, n: int, limit: float, source: str) -> GateResult:
    """An agreement on ``n`` images against ``limit``, which is lowered where so few images cannot resolve it."""
    lowered = agreement_limit(agreement_pct, n, limit)
    note = source if lowered == limit else f"{source}; {too_few(n, limit)}; down to {lowered:g} can be chance"
    return at_least(name, agreement_pct, lowered, note)


AGREEMENT = Gate(
    name=NAME,
    limit="min_agreement_pct",
    bounds=Percent,
    defaults={"int8": 98.0, "w8a16": 99.0, "fp16": 99.5, "fp32": 99.9},
    figure="accuracy",
    check=check,
)
