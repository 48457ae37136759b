"""``levit-edge sensitivity``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from levit_edge.cli.verb import Verb
from levit_edge.pipeline.options import SensitivityOptions
from levit_edge.progress import Progress

if TYPE_CHECKING:  # the help does not wait for what only an answer needs
    from rich.console import RenderableType

    from levit_edge.report.sensitivity import SensitivityReport


def _run(options: SensitivityOptions, progress: Progress) -> SensitivityReport:
    from levit_edge.pipeline.sensitivity import sensitivity

    return sensitivity(options, progress)


def show(options: SensitivityOptions, report: SensitivityReport) -> Iterator[RenderableType]:
    """For each target the tensors whose float form would gain most, and how many more there are."""
    from levit_edge.cli.tables import table
    from levit_edge.report.sensitivity import COLUMNS, SHOWN, cells, decibels_text

    yield f"{report.model}, recipe {report.recipe}, on {report.images.n} images of {report.images.source}"
    for name, found in report.targets.items():
        whole = f"{name}: {decibels_text(found.sqnr_db)}, {found.changed_pct:.1f} % other answers than float"
        yield table(whole, COLUMNS, map(cells, found.tensors[:SHOWN]))
        if len(found.tensors) > SHOWN:
            yield f"and {len(found.tensors) - SHOWN} more, which --json has"
    if options.picture is not None:
        yield str(options.picture)


VERB = Verb(
    name="sensitivity",
    help="Show how much noise each stored tensor adds to the logits, and what keeping it float would gain.",
    examples=("levit-edge sensitivity --target onnx --picture noise.svg",),
    options=SensitivityOptions,
    run=_run,
    show=show,
)
