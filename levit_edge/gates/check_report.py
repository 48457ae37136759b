"""The ``gate`` verb without its files: a report's figures against limits, and against an earlier report."""

from __future__ import annotations

from collections.abc import Mapping

from levit_edge.gates.baseline import compare_to_baseline
from levit_edge.gates.check_bundle import check
from levit_edge.gates.gate import Figures, Limit, undecided
from levit_edge.gates.gates_file import GatesFile
from levit_edge.gates.registry import GATES
from levit_edge.gates.resolve_limits import Limits
from levit_edge.report.gate_result import GateResult
from levit_edge.report.schema import Report, TargetReport


def check_report(
    report: Report, limits: Mapping[str, Limits], file: GatesFile, baseline: Report | None = None
) -> dict[str, tuple[GateResult, ...]]:
    """Every gate of every target, checked again from the figures; the results that the build wrote do not count.

    ``limits`` has those of every target in the report. What the report lacks leaves its gate undecided.
    """
    results = {name: _check(name, report, limits[name]) for name in report.targets}
    compared = {} if baseline is None else compare_to_baseline(report, baseline, file)
    return {name: results.get(name, ()) + compared.get(name, ()) for name in results | compared}


def with_verdicts(report: Report, limits: Mapping[str, Limits]) -> Report:
    """The report with the results of its gates; ``limits`` has those of every target in it."""
    targets = {
        name: target.model_copy(update={"gates": _check(name, report, limits[name])})
        for name, target in report.targets.items()
    }
    return report.model_copy(update={"targets": targets})


def _check(name: str, report: Report, limits: Limits) -> tuple[GateResult, ...]:
    """Every gate of one target, and one undecided for each limit of a device that ran nothing.

    A device may run some targets only, so a limit that holds for all targets wants the device on one of them.
    """
    target = report.targets[name]
    used = {device for entry in report.targets.values() for device in entry.devices}
    missing = [device for device in limits.devices if device not in (target.devices if device in limits.own else used)]
    absent = [
        undecided(
            gate.name, _plain(limits.of(gate, device)), f"{device} ran nothing; build with --device {device}"
        ).model_copy(update={"device": device})
        for device in missing
        for gate in GATES.values()
        if limits.devices[device].get(gate.limit) is not None
    ]
    return (*check(figures_of(target, report), limits), *absent)


def _plain(limit: Limit | None) -> float | str | None:
    """No limit of a device is a table."""
    return None if isinstance(limit, dict) else limit


def figures_of(target: TargetReport, report: Report) -> Figures:
    """The figures in one target's part of a report, as the gates take them."""
    accuracy, participants = target.accuracy, () if report.agreement is None else report.agreement.participants
    runs_here = any(one.executed for one in participants if one.target == target.bundle)
    return Figures(
        accuracy=accuracy,
        devices=target.devices,
        size_ratio=target.size_bytes / target.fp32_size_bytes,
        size_bytes=target.size_bytes,
        latency=target.latency,
        delegation=target.delegation,
        program_match=target.program_match,
        calibration_sha256=None if report.calibration is None else report.calibration.sha256,
        tool_versions=target.tool_versions,
        random_weights=report.model.random_weights,
        executed=accuracy.executed if accuracy is not None else runs_here if participants else None,
        classes=report.model.num_labels,
    )
