"""Tables that several verbs show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from levit_edge.report.figures import GATE_COLUMNS, gate_row
from levit_edge.report.schema import GateResult


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A titled table of texts, whose long cells are folded."""
    made = Table(title=title, title_justify="left")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def gate_table(title: str, results: Sequence[GateResult]) -> Table:
    """One row for each gate."""
    return table(title, GATE_COLUMNS, [gate_row(gate) for gate in results])
