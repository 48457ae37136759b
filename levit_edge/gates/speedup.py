"""Gate ``speedup``: how many times faster than its float reference the built model must be on this host.

Only int8 is expected to be faster on the host that builds: the 16-bit recipes pay off on a phone's own accelerator.
"""

from __future__ import annotations

from collections.abc import Iterator

from levit_edge.gates.gate import Figures, Gate, Ratio, at_least, skipped
from levit_edge.metrics.latency import CONFIDENCE_PCT
from levit_edge.report.schema import GateResult

NAME = "speedup"


def check(figures: Figures, limit: float, classes: int | None) -> Iterator[GateResult]:  # noqa: ARG001
    """Fails only when the whole confidence interval lies below the limit, so that noise alone fails no build."""
    latency = figures.latency
    if latency is None:
        yield skipped(NAME, limit, "no runtime ran here")
    elif latency.speedup < limit <= latency.speedup_high:
        within = f"limit {limit:g} lies within the {CONFIDENCE_PCT} % interval, up to {latency.speedup_high:.3f}"
        yield at_least(NAME, latency.speedup, latency.speedup, f"{latency.source}; {within}")
    else:
        yield at_least(NAME, latency.speedup, limit, latency.source)


SPEEDUP = Gate(
    name=NAME,
    limit="min_speedup",
    bounds=Ratio,
    defaults={"int8": 1.0, "w8a16": None, "fp16": None, "fp32": None},
    figure="latency",
    check=check,
)
