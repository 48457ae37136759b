"""The ``gate`` verb without its files: a report's figures against limits, and against an earlier report."""

from __future__ import annotations

from collections.abc import Mapping

from levit_edge.gates.baseline import compare_to_baseline
from levit_edge.gates.check_bundle import check
from levit_edge.gates.gate import Figures
from levit_edge.gates.gates_file import GatesFile
from levit_edge.gates.resolve_limits import Limits
from levit_edge.report.gate_result import GateResult
from levit_edge.report.schema import Report, TargetReport


def check_report(
    report: Report, limits: Mapping[str, Limits], file: GatesFile, baseline: Report | None = None
) -> dict[str, tuple[GateResult, ...]]:
    """Every gate of every target, checked again from the figures; the results that the build wrote do not count.

    ``limits`` has those of every target in the report. What the report lacks leaves its gate undecided.
    """
    results = {name: check(figures_of(target, report), limits[name]) for name, target in report.targets.items()}
    compared = {} if baseline is None else compare_to_baseline(report, baseline, file)
    return {name: results.get(name, ()) + compared.get(name, ()) for name in results | compared}


def with_verdicts(report: Report, limits: Mapping[str, Limits]) -> Report:
    """The report with the results of its gates; ``limits`` has those of every target in it."""
    targets = {
        name: target.model_copy(update={"gates": check(figures_of(target, report), limits[name])})
        for name, target in report.targets.items()
    }
    return report.model_copy(update={"targets": targets})


def figures_of(target: TargetReport, report: Report) -> Figures:
    """The figures in one target's part of a report, as the gates take them."""
    accuracy = target.accuracy
    return Figures(
        accuracy=accuracy,
        devices=target.devices,
        size_ratio=target.size_ratio,
        size_bytes=target.size_bytes,
        latency=target.latency,
        delegation=target.delegation,
        program_match=target.program_match,
        calibration_sha256=None if report.calibration is None else report.calibration.sha256,
        tool_versions=target.tool_versions,
        random_weights=report.model.random_weights,
        executed=None if accuracy is None else accuracy.executed,
        classes=report.model.num_labels,
    )
