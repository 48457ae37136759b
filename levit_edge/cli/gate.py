"""``levit-edge gate``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from levit_edge.cli.verb import DONE, GATE_FAILED, Verb
from levit_edge.pipeline.options import GateOptions
from levit_edge.progress import Progress

if TYPE_CHECKING:  # the help does not wait for what only an answer needs
    from rich.console import RenderableType

    from levit_edge.report.answers import GateCheck
    from levit_edge.report.gate_result import Outcome

OUTCOMES: tuple[Outcome, ...] = ("passed", "failed", "undecided", "not applicable")


def _run(options: GateOptions, progress: Progress) -> GateCheck:
    from levit_edge.pipeline.gate import gate

    return gate(options, progress)


def show(options: GateOptions, check: GateCheck) -> Iterator[RenderableType]:
    """One table per target with the reasons of what did not pass, and a last line with the totals."""
    from levit_edge.cli.tables import gate_report

    del options
    if check.written is not None:
        yield check.written
        return
    for name, results in check.targets.items():
        yield from gate_report(name, results)
    counts = Counter(result.outcome for results in check.targets.values() for result in results)
    yield ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES)


VERB = Verb(
    name="gate",
    help="Check the figures of a report against limits, and against an earlier report.",
    examples=(
        "levit-edge gate dist/report.json --baseline release-1.json --junit gates.xml",
        "levit-edge gate dist/report.json --init gates.toml",
    ),
    options=GateOptions,
    run=_run,
    show=show,
    exit_code=lambda check: DONE if check.passed or check.written is not None else GATE_FAILED,
)
