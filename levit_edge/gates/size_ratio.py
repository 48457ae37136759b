"""Gate ``size_ratio``: how large the model file may be, as a share of its float reference.

Int8 weights take a quarter of float32; the graph, the scales and the tensors that stay float come on top. How much that
is depends on the file format, so the default limits are those of the target.
"""

from __future__ import annotations

from collections.abc import Iterator

from levit_edge.gates.gate import BASES, Figures, Gate, Ratio, at_most, skipped
from levit_edge.report.schema import GateResult

NAME = "size_ratio"


def check(figures: Figures, limit: float, classes: int | None) -> Iterator[GateResult]:  # noqa: ARG001
    """Fails when the file is larger than the limit allows."""
    if figures.size_ratio is None:
        yield skipped(NAME, limit, "the size was not measured")
    else:
        yield at_most(NAME, figures.size_ratio, limit)


SIZE_RATIO = Gate(
    name=NAME,
    limit="max_size_ratio",
    bounds=Ratio,
    defaults=dict.fromkeys(BASES),
    figure="size_ratio",
    check=check,
)
