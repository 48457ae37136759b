"""Gate results as Markdown, for the summary of a CI run: the verdict first, then each target's gates and figures."""

from __future__ import annotations

from levit_edge.report.answers import GateCheck
from levit_edge.report.figures import GATE_COLUMNS, VERDICT, figure_table, gate_row
from levit_edge.report.markdown import environment
from levit_edge.report.schema import Report


def gates_markdown(check: GateCheck, report: Report, baseline: Report | None) -> str:
    """The text: failed and undecided gates at the top, and each figure before and after where there is a baseline."""
    stops = ("failed", "undecided")
    results = {name: [gate for gate in gates if gate.outcome in stops] for name, gates in check.targets.items()}
    return (
        environment()
        .get_template("gates.md.j2")
        .render(
            check=check,
            open_gates=[(name, *gate_row(gate)) for name, gates in results.items() for gate in gates],
            gate_columns=GATE_COLUMNS,
            gates={name: [gate_row(gate) for gate in gates] for name, gates in check.targets.items()},
            figures=_before_and_after(report, baseline),
            compared=baseline is not None,
        )
    )


def _before_and_after(report: Report, baseline: Report | None) -> dict[str, list[tuple[str, ...]]]:
    """Rows (figure, now) or (figure, before, now) of each target."""
    # The verdict in a report is that of the limits of its build.
    now, names = [row for row in figure_table(report) if row[0] != VERDICT], list(report.targets)
    before = {} if baseline is None else {row[0]: row[1:] for row in figure_table(baseline)}
    tables: dict[str, list[tuple[str, ...]]] = {}
    for index, name in enumerate(names):
        rows: list[tuple[str, ...]] = [(row[0], row[index + 1]) for row in now]
        if baseline is not None:
            column = list(baseline.targets).index(name) if name in baseline.targets else None
            rows = [
                (label, "-" if column is None or label not in before else before[label][column], text)
                for label, text in rows
            ]
        tables[name] = rows
    return tables
