"""Gate ``device_agreement_pct``: on how many images a device must answer as this host does, with the same file."""

from __future__ import annotations

from collections.abc import Iterator

from levit_edge.gates.agreement import agreed
from levit_edge.gates.chance import AT_CHANCE, at_chance
from levit_edge.gates.gate import Figures, Gate, Percent, skipped
from levit_edge.report.schema import GateResult

NAME = "device_agreement_pct"


def check(figures: Figures, limit: float, classes: int | None) -> Iterator[GateResult]:
    """One result for each device whose answers were compared with those of this host's runtime."""
    for device, found in figures.devices.items():
        if found.local is None:
            continue
        if at_chance(found.accuracy, classes):
            yield skipped(NAME, limit, AT_CHANCE)
        else:
            source = f"{device} against {found.local.runtime} of this host"
            yield agreed(NAME, found.local.agreement_pct, found.local.n, limit, source)


DEVICE_AGREEMENT = Gate(
    name=NAME,
    limit="min_device_agreement_pct",
    bounds=Percent,
    defaults={"int8": 99.0, "w8a16": 99.0, "fp16": 99.0, "fp32": 99.0},
    figure="devices",
    check=check,
)
