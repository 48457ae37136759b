"""``report.md``: the report of a build for people."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from levit_edge.report.figures import (
    GATE_COLUMNS,
    KERNEL_COLUMNS,
    agreement_tables,
    evaluation_text,
    figure_table,
    gate_row,
    kernel_rows,
    model_text,
    verdict_text,
)
from levit_edge.report.kept_float import FLOAT_COLUMNS, STEP_COLUMNS, float_rows, step_rows, step_title
from levit_edge.report.schema import Report


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
            float_columns=FLOAT_COLUMNS,
            step_columns=STEP_COLUMNS,
            agreement={} if report.agreement is None else agreement_tables(report.agreement),
        )
    )


def environment() -> Environment:
    """The templates of this package, which make Markdown and not HTML; a name that a template lacks is an error."""
    made = Environment(  # noqa: S701
        loader=PackageLoader("levit_edge.report", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(
        cell=_cell,
        model=model_text,
        evaluation=evaluation_text,
        verdict=verdict_text,
        gate_row=gate_row,
        kernel_rows=kernel_rows,
        float_rows=float_rows,
        step_rows=step_rows,
        step_title=step_title,
    )
    return made


def _cell(text: Any) -> str:
    """Text that cannot break out of its Markdown table cell."""
    return " ".join(str(text).split()).replace("|", r"\|")
