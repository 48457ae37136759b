"""``levit-edge inspect``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from levit_edge.cli.verb import DONE, GATE_FAILED, Verb
from levit_edge.pipeline.options import InspectOptions
from levit_edge.progress import Progress

if TYPE_CHECKING:  # the help does not wait for what only an answer needs
    from rich.console import RenderableType

    from levit_edge.report.answers import Inspection
    from levit_edge.report.divergence import Divergence, LayerRow

LAYERS = ("", "kind", "layer", "SQNR to program", "SQNR by itself", "steps by itself", "SQNR to float", "")


def _run(options: InspectOptions, progress: Progress) -> Inspection | Divergence:
    from levit_edge.pipeline.inspect import inspect

    return inspect(options, progress)


def show(options: InspectOptions, result: Inspection | Divergence) -> Iterator[RenderableType]:
    """What runs where, or the layers one by one."""
    del options
    from levit_edge.report.divergence import Divergence

    yield from _divergence(result) if isinstance(result, Divergence) else _inspection(result)


def _inspection(result: Inspection) -> Iterator[RenderableType]:
    """Totals, then the operators by kind."""
    from levit_edge.cli.tables import table
    from levit_edge.report.figures import DELEGATION, text_rows

    totals = [
        ("model", f"{result.bundle}/{result.model_file}"),
        ("size", f"{result.size_bytes / 1e6:.2f} MB"),
        *text_rows(DELEGATION, result),
    ]
    yield table(f"{result.bundle} ({result.target})", ("", ""), totals)
    kinds = [(row.name, row.precision, row.placement, str(row.count)) for row in result.operators]
    if kinds:
        yield table("operators", ("operator", "precision", "placement", "count"), kinds)
    yield from (f"note: {note}" for note in result.notes)


def _divergence(result: Divergence) -> Iterator[RenderableType]:
    """One row per layer, and a last line that names the first one that departs."""
    from levit_edge.cli.tables import table

    where = f"{result.runtime}{'' if result.executed else ', simulated'}"
    rows = [_layer_cells(row) for row in result.layers]
    yield table(f"{result.bundle} ({where}) on {result.image}", LAYERS, rows)
    if result.first is None:
        yield f"no layer departs from the quantized program: {len(result.layers)} compared"
    else:
        row = result.layers[result.first]
        yield f"departs first: layer {row.index}, {row.name} ({row.kind}): {row.departs}"


def _layer_cells(row: LayerRow) -> tuple[str, ...]:
    from levit_edge.report.figures import ABSENT

    alone = row.local
    figures = (row.program.sqnr_db, alone.sqnr_db, row.float_sqnr_db)
    to_program, by_itself, to_float = (ABSENT if value is None else f"{value:.1f} dB" for value in figures)
    by_itself = "equal" if alone.max_steps == 0 else by_itself
    steps = ABSENT if alone.max_steps is None else f"{alone.max_steps:.1f}"
    mark = "departs" if row.departs else ""
    return str(row.index), row.kind, row.name, to_program, by_itself, steps, to_float, mark


def _exit_code(result: Inspection | Divergence) -> int:
    from levit_edge.report.divergence import Divergence

    return GATE_FAILED if isinstance(result, Divergence) and result.first is not None else DONE


VERB = Verb(
    name="inspect",
    help=(
        "Show what runs where: operators, int8 or float, delegated or not, size.\n\n"
        "With --diverge, compare every layer with the quantized program on an image; exit code 1 when one departs."
    ),
    examples=("levit-edge inspect dist/executorch", "levit-edge inspect dist/executorch --diverge cat.jpg"),
    options=InspectOptions,
    run=_run,
    show=show,
    exit_code=_exit_code,
)
