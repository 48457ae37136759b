"""Gate ``sqnr_db``: how close the logits must come to those of the float model.

It has no default limit, because what is healthy depends on the model: 32 dB lose no top-1 on the demo.
"""

from __future__ import annotations

from collections.abc import Iterator

from levit_edge.gates.gate import RANDOM_WEIGHTS, Figures, Gate, Positive, at_least, not_applicable, undecided
from levit_edge.report.gate_result import GateResult

NAME = "sqnr_db"


def check(figures: Figures, limit: float) -> Iterator[GateResult]:
    """Fails below the limit; identical logits have no finite ratio and pass."""
    accuracy = figures.accuracy
    if figures.random_weights:
        yield not_applicable(NAME, limit, RANDOM_WEIGHTS)
    elif accuracy is None:
        yield undecided(NAME, limit, "accuracy was not measured; --eval DATA measures it")
    elif accuracy.sqnr_db is not None:
        yield at_least(NAME, accuracy.sqnr_db, limit, f"{accuracy.source}, {accuracy.n} images")
    elif accuracy.agreement_pct == 100 and accuracy.float_margin:  # an all-zero reference has no margin
        note = f"{accuracy.source}: the logits are those of the float model"
        yield GateResult(name=NAME, outcome="passed", value=None, limit=limit, note=note)
    else:
        yield undecided(NAME, limit, "the float logits are all zero, so there is no ratio")


SQNR = Gate(
    name=NAME,
    limit="min_sqnr_db",
    bounds=Positive,
    help="signal to noise of the logits against those of the float model, in dB",
    figure="accuracy",
    check=check,
)
