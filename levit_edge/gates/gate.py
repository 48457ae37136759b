"""The ``gate`` verb without its files: a report's figures against limits, and against an earlier report."""

from __future__ import annotations

from levit_edge.errors import InputError
from levit_edge.gates.absolute import evaluate
from levit_edge.gates.baseline import compare_to_baseline
from levit_edge.gates.limits import thresholds_for
from levit_edge.report.schema import GateResult, Report


def check_report(
    report: Report,
    changes: dict[str, dict[str, float | None]] | None = None,
    baseline: Report | None = None,
) -> dict[str, tuple[GateResult, ...]]:
    """Every gate of every target, from the figures and not from the gates that the build wrote.

    ``changes`` is what ``load_thresholds`` read. InputError when no target has an accuracy or a latency: such a report
    would pass without having been looked at.
    """
    if all(target.accuracy is None and target.latency is None for target in report.targets.values()):
        raise InputError("the report has no accuracy and no latency to check; build again with --eval DATA")
    classes = report.model.num_labels
    results = {
        name: evaluate(target, thresholds_for(target.recipe_base or target.recipe, name, changes), classes)
        for name, target in report.targets.items()
    }
    compared = compare_to_baseline(report, baseline) if baseline is not None else {}
    names = (*results, *(name for name in compared if name not in results))
    return {name: results.get(name, ()) + compared.get(name, ()) for name in names}
