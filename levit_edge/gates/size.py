"""Gates ``size_ratio`` and ``size_bytes``: how large the model file may be, against its float reference and at all.

Int8 weights take a quarter of float32; the graph, the scales and the tensors that stay float come on top. How much that
is depends on the file format, so the default limits of the ratio are those of the target.
"""

from __future__ import annotations

from collections.abc import Iterator

from levit_edge.gates.gate import Figures, Gate, Positive, at_most, undecided
from levit_edge.report.gate_result import GateResult

UNKNOWN = "the size was not measured"


def _check_ratio(figures: Figures, limit: float) -> Iterator[GateResult]:
    if figures.size_ratio is None:
        yield undecided("size_ratio", limit, UNKNOWN)
    else:
        yield at_most("size_ratio", figures.size_ratio, limit)


def _check_bytes(figures: Figures, limit: float) -> Iterator[GateResult]:
    if figures.size_bytes is None:
        yield undecided("size_bytes", limit, UNKNOWN)
    else:
        yield at_most("size_bytes", figures.size_bytes, limit)


SIZE_RATIO = Gate(
    name="size_ratio",
    limit="max_size_ratio",
    bounds=Positive,
    help="bytes of the model file over bytes of its float reference",
    figure="size",
    check=_check_ratio,
)
SIZE_BYTES = Gate(
    name="size_bytes",
    limit="max_size_bytes",
    bounds=Positive,
    help="bytes of the model file",
    figure="size",
    check=_check_bytes,
)
