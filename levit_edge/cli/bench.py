"""``levit-edge bench``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from levit_edge.cli.verb import Verb
from levit_edge.pipeline.options import BenchOptions
from levit_edge.progress import Progress

if TYPE_CHECKING:  # the help does not wait for what only an answer needs
    from rich.console import RenderableType

    from levit_edge.report.answers import BenchResult


def _run(options: BenchOptions, progress: Progress) -> BenchResult:
    from levit_edge.pipeline.bench import bench

    return bench(options, progress)


def show(options: BenchOptions, result: BenchResult) -> Iterator[RenderableType]:
    """One column per bundle, times or instructions; why a bundle has no figures stands below the table."""
    from levit_edge.cli.tables import table
    from levit_edge.report.figures import INSTRUCTIONS, KERNEL_COLUMNS, LATENCY, kernel_rows, text_rows

    del options
    counted = any(row.instructions is not None for row in result.rows)
    what = "instructions per inference" if counted else "latency"
    columns = [
        dict(text_rows(INSTRUCTIONS, row.instructions) if counted else text_rows(LATENCY, row.latency))
        for row in result.rows
    ]
    figures = [(name, *(column[name] for column in columns)) for name in (columns[0] if columns else ())]
    yield table(f"{what} on {result.device}", ("", *(row.bundle for row in result.rows)), figures)
    for row in result.rows:
        if row.instructions is not None:
            yield table(f"{row.bundle}: where they go", KERNEL_COLUMNS, kernel_rows(row.instructions))
    yield from (f"{row.bundle}: {row.note}" for row in result.rows if row.note)


VERB = Verb(
    name="bench",
    help="Time bundles and their float references by turns; on a device that counts, count their instructions.",
    examples=("levit-edge bench dist/executorch dist/onnx --threads 1 --runs 100",),
    options=BenchOptions,
    run=_run,
    show=show,
)
