"""``levit-edge diff``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from levit_edge.cli.verb import Verb
from levit_edge.pipeline.options import DiffOptions
from levit_edge.progress import Progress

if TYPE_CHECKING:  # the help does not wait for what only an answer needs
    from rich.console import RenderableType

    from levit_edge.report.difference import BuildDifference


def _run(options: DiffOptions, progress: Progress) -> BuildDifference:
    from levit_edge.pipeline.diff import diff

    return diff(options, progress)


def show(options: DiffOptions, difference: BuildDifference) -> Iterator[RenderableType]:
    """The likely cause, then one table for each part that differs."""
    from rich.text import Text

    from levit_edge.cli.tables import table
    from levit_edge.report.difference_tables import remarks, sections

    del options
    yield Text(difference.cause)
    for section in sections(difference):
        yield table(section.title, section.columns, section.rows)
        if section.more:
            yield f"and {section.more} more"
    yield from map(Text, remarks(difference))


VERB = Verb(
    name="diff",
    help=(
        "Explain the difference between two builds: inputs, versions, figures, operators, scales and layers.\n\n"
        "The exit code is 0 whether they differ or not; `gate` is what judges."
    ),
    examples=("levit-edge diff release-1 dist", "levit-edge diff release-1.json dist/report.json --markdown diff.md"),
    options=DiffOptions,
    run=_run,
    show=show,
)
