"""The identities of a report: model, images, recipe, host, versions and devices.

Two reports are compared only where these are the same, or where the user says that a difference is intended.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256

from levit_edge.report.gate_result import GateResult
from levit_edge.report.policy import IDENTITIES, IdentityName
from levit_edge.report.schema import Report, TargetReport

UNKNOWN = "unknown"
NONE = "none"
_DIGITS = 12  # of a SHA-256, which is enough to tell two apart


def compare_identities(
    now: tuple[Report, TargetReport], before: tuple[Report, TargetReport], accepted: Sequence[IdentityName]
) -> Iterator[GateResult]:
    """A result named ``baseline_NAME`` for each identity: passed where it is the same on both sides.

    One that differs fails, unless it is among the ``accepted`` ones: then it does not apply. Where the baseline is of a
    version that did not record an identity, that is a difference.
    """
    for name in IDENTITIES:
        found, earlier = _OF[name](*now), _OF[name](*before)
        outcome, note = "passed", ""
        if found != earlier or UNKNOWN in (found, earlier):
            outcome = "not applicable" if name in accepted else "failed"
            difference = "not recorded" if UNKNOWN in (found, earlier) else f"another {name}"
            advice = f"--accept-difference {name} compares all the same, `levit-edge diff` explains"
            note = f"{difference}, as accepted" if name in accepted else f"{difference}; {advice}"
        yield GateResult.model_validate(
            {"name": f"baseline_{name}", "outcome": outcome, "value": found, "limit": earlier, "note": note}
        )


def _model(report: Report, target: TargetReport) -> str:
    del target
    return f"{report.model.variant} {report.model.sha256[:_DIGITS]}"


def _evaluation(report: Report, target: TargetReport) -> str:
    if report.evaluation is None:
        return NONE if target.accuracy is None else UNKNOWN
    return f"{report.evaluation.n} images {report.evaluation.sha256[:_DIGITS]}"


def _calibration(report: Report, target: TargetReport) -> str:
    del target
    return (
        NONE
        if report.calibration is None
        else f"{report.calibration.samples} images {report.calibration.sha256[:_DIGITS]}"
    )


def _recipe(report: Report, target: TargetReport) -> str:
    del report
    if not target.recipe_settings:
        return UNKNOWN
    plain = {name: sorted(map(str, v)) if isinstance(v, list) else v for name, v in target.recipe_settings.items()}
    settings = sha256(json.dumps(plain, sort_keys=True).encode())
    return f"{target.recipe} {settings.hexdigest()[:_DIGITS]}"


def _host(report: Report, target: TargetReport) -> str:
    del target
    return f"{report.host.system} {report.host.machine}, {report.host.processor}"


def _versions(report: Report, target: TargetReport) -> str:
    del report
    return ", ".join(f"{tool} {version}" for tool, version in sorted(target.tool_versions.items())) or UNKNOWN


def _devices(report: Report, target: TargetReport) -> str:
    del report
    return ", ".join(sorted(target.devices)) or NONE


_OF: dict[IdentityName, Callable[[Report, TargetReport], str]] = {
    "model": _model,
    "evaluation": _evaluation,
    "calibration": _calibration,
    "recipe": _recipe,
    "host": _host,
    "versions": _versions,
    "devices": _devices,
}
