"""Gate ``top1_drop_pp``: how many percentage points of top-1 accuracy the built model may lose against float."""

from __future__ import annotations

from collections.abc import Iterator

from levit_edge.gates.chance import drop_limit, too_few
from levit_edge.gates.gate import Figures, Gate, Percent, at_most, skipped
from levit_edge.report.schema import GateResult

NAME = "top1_drop_pp"


def check(figures: Figures, limit: float, classes: int | None) -> Iterator[GateResult]:  # noqa: ARG001
    """Fails when the drop exceeds the limit by more than chance can cause on these images."""
    accuracy = figures.accuracy
    if accuracy is None:
        yield skipped(NAME, limit, "accuracy was not measured")
    elif accuracy.top1_drop_pp is None:
        yield skipped(NAME, limit, "no image has a known class")
    else:
        widened, note = drop_limit(accuracy, limit), accuracy.source
        if widened != limit:
            note += f"; {too_few(accuracy.n_labelled, limit)}; up to {widened:g} can be chance"
        yield at_most(NAME, accuracy.top1_drop_pp, widened, note)


TOP1_DROP = Gate(
    name=NAME,
    limit="max_top1_drop_pp",
    bounds=Percent,
    defaults={"int8": 0.5, "w8a16": 0.5, "fp16": 0.2, "fp32": 0.1},
    figure="accuracy",
    check=check,
)
