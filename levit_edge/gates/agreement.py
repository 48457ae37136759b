"""Gate ``agreement_pct``: on how many images the built model must give the float model's answer.

It needs no labels. The default limits are the strictest that 1,000 images decide reliably for a healthy bundle.
"""

from __future__ import annotations

from collections.abc import Iterator

from levit_edge.gates.gate import RANDOM_WEIGHTS, Figures, Gate, Percent, not_applicable, undecided
from levit_edge.gates.sampled import judge_share
from levit_edge.report.gate_result import GateResult

NAME = "agreement_pct"


def check(figures: Figures, limit: float) -> Iterator[GateResult]:
    """Judges the share of images with the same best class."""
    accuracy = figures.accuracy
    if figures.random_weights:
        yield not_applicable(NAME, limit, RANDOM_WEIGHTS)
    elif accuracy is None:
        yield undecided(NAME, limit, "accuracy was not measured; --eval DATA measures it")
    else:
        yield judge_share(NAME, accuracy.agreement_pct, accuracy.n, limit, accuracy.source)


AGREEMENT = Gate(
    name=NAME,
    limit="min_agreement_pct",
    bounds=Percent,
    help="images with the float model's answer, in percent",
    defaults={"int8": 97.0, "w8a16": 98.0, "fp16": 99.0, "fp32": 99.5},
    figure="accuracy",
    check=check,
)
