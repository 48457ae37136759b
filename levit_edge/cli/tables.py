"""Tables that several verbs show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table

from levit_edge.report.figures import GATE_COLUMNS, gate_row
from levit_edge.report.gate_result import GateResult


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A titled table of texts, whose long cells are folded."""
    made = Table(title=title, title_justify="left")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def gate_report(title: str, results: Sequence[GateResult]) -> Iterator[RenderableType]:
    """A table with one row for each gate, which fits 80 columns, and below it the reason of each that did not pass."""
    made = Table(title=title, title_justify="left")
    for column in GATE_COLUMNS[:-1]:
        made.add_column(column, overflow="fold", no_wrap=column in ("gate", "result"))
    for gate in results:
        made.add_row(*gate_row(gate)[:-1])
    yield made
    yield from (f"{gate.outcome}: {gate.name}: {gate.note}" for gate in results if gate.outcome != "passed")
