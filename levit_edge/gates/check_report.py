"""The ``gate`` verb without its files: a report's figures against limits, and against an earlier report."""

from __future__ import annotations

from collections.abc import Mapping

from levit_edge.errors import InputError
from levit_edge.gates.baseline import compare_to_baseline
from levit_edge.gates.check_bundle import check
from levit_edge.gates.gate import Figures
from levit_edge.gates.resolve_limits import Limits
from levit_edge.report.schema import GateResult, Report, TargetReport


def check_report(
    report: Report, limits: Mapping[str, Limits], baseline: Report | None = None
) -> dict[str, tuple[GateResult, ...]]:
    """Every gate of every target, checked again from the figures; the results that the build wrote do not count.

    ``limits`` has those of every target in the report. Raises InputError when no target has an accuracy or a latency,
    because such a report would pass although nothing in it was checked.
    """
    if all(target.accuracy is None and target.latency is None for target in report.targets.values()):
        raise InputError("the report has no accuracy and no latency to check; build again with --eval DATA")
    classes = report.model.num_labels
    results = {name: check(figures_of(target), limits[name], classes) for name, target in report.targets.items()}
    compared = {} if baseline is None else compare_to_baseline(report, baseline)
    return {name: results.get(name, ()) + compared.get(name, ()) for name in results | compared}


def figures_of(target: TargetReport) -> Figures:
    """The figures in one target's part of a report, as the gates take them."""
    return Figures(
        accuracy=target.accuracy, devices=target.devices, size_ratio=target.size_ratio, latency=target.latency
    )
