"""``levit-edge gate``: a report's figures against limits, and against an earlier report."""

from __future__ import annotations

from levit_edge.bundle.files import check_folder_of, write_text
from levit_edge.errors import InputError
from levit_edge.gates.check_report import check_report
from levit_edge.gates.gates_file import GatesFile, read_gates
from levit_edge.gates.initial_file import initial_file
from levit_edge.gates.junit import to_junit
from levit_edge.gates.resolve_limits import Limits, limits_for
from levit_edge.pipeline.options import GateOptions
from levit_edge.progress import QUIET, Progress
from levit_edge.report.answers import GateCheck
from levit_edge.report.gates_markdown import gates_markdown
from levit_edge.report.policy import IDENTITIES, IdentityName
from levit_edge.report.schema import Report, load_report
from targets.registry import TARGETS, target


def gate(options: GateOptions, progress: Progress = QUIET) -> GateCheck:
    """Check every figure of a report again; the results go to ``options.junit`` and ``options.markdown`` too.

    With ``options.init`` nothing is checked: a gates file with the limits that hold for the report is written there.
    Raises InputError for a file that cannot be read, an unknown target, recipe or identity, and a gates file that is
    there already or whose folder does not exist.
    """
    del progress  # it takes no time
    for path in (options.junit, options.markdown, options.init):
        check_folder_of(path)
    file = read_gates(options.gates, TARGETS, options.undecided, _identities(options.accept_difference))
    earlier = None if options.baseline is None else load_report(options.baseline)
    report = load_report(options.report)
    limits = _limits(report, file)
    if options.init is not None:
        if options.init.exists():
            raise InputError(f"{options.init} exists already; name another file for --init, or remove it")
        write_text(options.init, initial_file(report, limits, file))
        return GateCheck(report=str(options.report), targets={}, written=str(options.init))
    check = GateCheck(
        report=str(options.report),
        baseline=None if options.baseline is None else str(options.baseline),
        undecided=file.undecided,
        targets=check_report(report, limits, file, earlier),
    )
    if options.junit is not None:
        write_text(options.junit, to_junit(check.targets, file.undecided))
    if options.markdown is not None:
        write_text(options.markdown, gates_markdown(check, report, earlier))
    return check


def _limits(report: Report, file: GatesFile) -> dict[str, Limits]:
    """Those of each target; a build that was asked for more accuracy is held to it."""
    found = {}
    for name, entry in report.targets.items():
        found[name] = limits_for(name, entry.recipe_base or entry.recipe, target(name).limits, file)
        if (asked := entry.mixed_precision) is not None:
            found[name] = found[name].held_to(asked.goal_db, asked.goal_drop_pp)
    return found


def _identities(names: tuple[str, ...]) -> tuple[IdentityName, ...]:
    known: dict[str, IdentityName] = {name: name for name in IDENTITIES}
    for name in names:
        if name not in known:
            raise InputError(f"--accept-difference {name!r} is no identity; valid: {', '.join(IDENTITIES)}")
    return tuple(known[name] for name in names)
