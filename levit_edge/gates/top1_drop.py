"""Gate ``top1_drop_pp``: how many percentage points of top-1 accuracy the built model may lose against float.

The default limits are the smallest that 1,000 images decide reliably for a healthy bundle; ``docs/gates.md`` has the
probabilities. Whoever has more images should set a lower limit.
"""

from __future__ import annotations

from collections.abc import Iterator

from levit_edge.gates.gate import RANDOM_WEIGHTS, Figures, Gate, Percent, not_applicable, undecided
from levit_edge.gates.intervals import share
from levit_edge.gates.sampled import judge_drop
from levit_edge.metrics.accuracy import Accuracy
from levit_edge.report.gate_result import GateResult

NAME = "top1_drop_pp"


def check(figures: Figures, limit: float) -> Iterator[GateResult]:
    """Judges the answers lost and gained against float; undecided where the float model itself may be guessing."""
    accuracy = figures.accuracy
    if figures.random_weights:
        yield not_applicable(NAME, limit, RANDOM_WEIGHTS)
    elif accuracy is None:
        yield undecided(NAME, limit, "accuracy was not measured; --eval DATA measures it")
    elif accuracy.top1_drop_pp is None or accuracy.top1_lost is None or accuracy.top1_gained is None:
        yield undecided(NAME, limit, "no image has a known class; evaluate on labelled images")
    elif guesses(accuracy, figures.classes):
        yield undecided(
            NAME,
            limit,
            f"{accuracy.n_labelled} images do not show that the float model does better than guessing: "
            "check the weights and the labels, or evaluate on more images",
        )
    else:
        yield judge_drop(NAME, accuracy.top1_lost, accuracy.top1_gained, accuracy.n_labelled, limit, accuracy.source)


def guesses(accuracy: Accuracy, classes: int | None) -> bool:
    """True unless the float model's top-1 is above that of guessing with 95 % confidence (exact binomial test)."""
    if accuracy.top1_fp32_pct is None or classes is None or classes < 2:
        return True
    right = round(accuracy.top1_fp32_pct * accuracy.n_labelled / 100)
    return share(right, accuracy.n_labelled).low <= 100 / classes


TOP1_DROP = Gate(
    name=NAME,
    limit="max_top1_drop_pp",
    bounds=Percent,
    help="top-1 of the float model less top-1 of the built model, in percentage points",
    defaults={"int8": 1.5, "w8a16": 1.0, "fp16": 0.75, "fp32": 0.5},
    figure="accuracy",
    check=check,
)
