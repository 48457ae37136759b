"""``report.md``: the report of a build for people."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from levit_edge.report.figures import (
    GATE_COLUMNS,
    KERNEL_COLUMNS,
    agreement_tables,
    figure_table,
    gate_row,
    kernel_rows,
    verdict_text,
)
from levit_edge.report.schema import Report


def environment() -> Environment:
    """What every Markdown page is made with: it fails on a name that it does not know."""
    made = Environment(  # Markdown, not HTML  # noqa: S701
        loader=PackageLoader("levit_edge.report", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(cell=_cell, verdict=verdict_text, gate_row=gate_row, kernel_rows=kernel_rows)
    return made


def render_markdown(report: Report) -> str:
    """The text of ``report.md``."""
    figures = figure_table(report)
    return (
        environment()
        .get_template("report.md.j2")
        .render(
            report=report,
            figures={
                name: [(row[0], row[index]) for row in figures] for index, name in enumerate(report.targets, start=1)
            },
            gate_columns=GATE_COLUMNS,
            kernel_columns=KERNEL_COLUMNS,
            agreement={} if report.agreement is None else agreement_tables(report.agreement),
        )
    )


def _cell(text: Any) -> str:
    """Text that cannot break out of its Markdown table cell."""
    return " ".join(str(text).split()).replace("|", r"\|")
