"""``levit-edge gate``: a report's figures against limits, and against an earlier report."""

from __future__ import annotations

from levit_edge.bundle.files import write_text
from levit_edge.gates.check_report import check_report
from levit_edge.gates.junit import to_junit
from levit_edge.gates.resolve_limits import limits_for, load_limits
from levit_edge.pipeline.options import GateOptions
from levit_edge.progress import QUIET, Progress
from levit_edge.report.answers import GateCheck
from levit_edge.report.schema import load_report
from targets.registry import TARGETS, target


def gate(options: GateOptions, progress: Progress = QUIET) -> GateCheck:
    """Check every figure of a report again; with ``options.junit`` the results are also written as JUnit XML.

    Raises InputError for a file that cannot be read, an unknown target or recipe, and a report without any figure.
    """
    del progress  # it takes no time
    changes = {} if options.thresholds is None else load_limits(options.thresholds, tuple(TARGETS))
    earlier = None if options.baseline is None else load_report(options.baseline)
    report = load_report(options.report)
    limits = {
        name: limits_for(entry.recipe_base or entry.recipe, target(name).limits, changes.get(name))
        for name, entry in report.targets.items()
    }
    results = check_report(report, limits, earlier)
    if options.junit is not None:
        write_text(options.junit, to_junit(results))
    return GateCheck(
        report=str(options.report),
        baseline=None if options.baseline is None else str(options.baseline),
        passed=all(result.passed is not False for gates in results.values() for result in gates),
        targets=results,
    )
