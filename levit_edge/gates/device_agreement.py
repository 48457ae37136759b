"""Gate ``device_agreement_pct``: on how many images a device must answer as this host does, with the same file.

The default limit leaves room for two answers of 200 that turn over at a tie; a wrong kernel turns over far more.
"""

from __future__ import annotations

from collections.abc import Iterator

from levit_edge.gates.gate import BASES, RANDOM_WEIGHTS, Figures, Gate, Percent, not_applicable, undecided
from levit_edge.gates.sampled import judge_share
from levit_edge.report.gate_result import GateResult

NAME = "device_agreement_pct"


def check(figures: Figures, limit: float) -> Iterator[GateResult]:
    """One result for each device that was asked for."""
    for device, found in figures.devices.items():
        if figures.random_weights:
            yield not_applicable(NAME, limit, RANDOM_WEIGHTS)
        elif found.local is None:
            yield undecided(NAME, limit, f"{device} answered no image; evaluate on images with --eval DATA")
        else:
            source = f"{device} against {found.local.runtime} of this host"
            yield judge_share(NAME, found.local.agreement_pct, found.local.n, limit, source)


DEVICE_AGREEMENT = Gate(
    name=NAME,
    limit="min_device_agreement_pct",
    bounds=Percent,
    help="images to which a device gives the answer of this host, in percent",
    defaults=dict.fromkeys(BASES, 96.5),
    figure="devices",
    check=check,
    per_device=True,
)
