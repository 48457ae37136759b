"""The report of a build as a table for the terminal."""

from __future__ import annotations

from rich.table import Table

from levit_edge.report.figures import evaluation_text, figure_table, model_text
from levit_edge.report.schema import Report


def summary_table(report: Report) -> Table:
    """One column per target and one row per figure, those of :func:`levit_edge.report.figures.figure_table`."""
    table = Table(title=model_text(report.model))
    if report.evaluation is not None:
        table.caption = evaluation_text(report.evaluation)
    table.add_column("")
    for name in report.targets:
        table.add_column(name, justify="right")
    for row in figure_table(report):
        table.add_row(*row)
    return table
