"""Gates on what a release was made with: the calibration images and the versions of the tools.

They have no default limits. A baseline compares both as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from levit_edge.gates.gate import Figures, Gate, Sha256, Versions, undecided
from levit_edge.report.gate_result import GateResult


def equal(name: str, value: str, limit: str, note: str) -> GateResult:
    """Passed when ``value`` is ``limit``; ``note`` says what a difference means."""
    same = value == limit
    return GateResult(
        name=name, outcome="passed" if same else "failed", value=value, limit=limit, note="" if same else note
    )


def _check_calibration(figures: Figures, limit: str) -> Iterator[GateResult]:
    name, found = "calibration_sha256", figures.calibration_sha256
    if found is None:
        yield undecided(name, limit, "the report names no calibration images")
    else:
        yield equal(name, found, limit, "the scales were chosen on other images, or with another preprocessing")


def _check_versions(figures: Figures, limit: Mapping[str, str]) -> Iterator[GateResult]:
    for tool, version in limit.items():
        name, found = f"version_{tool}", figures.tool_versions.get(tool)
        if found is None:
            yield undecided(name, version, f"the report does not say which {tool} was used")
        else:
            yield equal(name, found, version, f"built with another version of {tool}")


CALIBRATION = Gate(
    name="calibration_sha256",
    limit="calibration_sha256",
    bounds=Sha256,
    help="SHA-256 of the calibration images and their preprocessing",
    figure="identity",
    check=_check_calibration,
)
VERSIONS = Gate(
    name="versions",
    limit="versions",
    bounds=Versions,
    help='versions of the tools, such as { torch = "2.13.0" }',
    figure="identity",
    check=_check_versions,
)
