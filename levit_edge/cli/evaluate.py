"""``levit-edge eval``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from levit_edge.cli.verb import DONE, GATE_FAILED, Verb
from levit_edge.pipeline.options import EvaluateOptions
from levit_edge.progress import Progress

if TYPE_CHECKING:  # the help does not wait for what only an answer needs
    from rich.console import RenderableType

    from levit_edge.report.answers import Evaluation


def _run(options: EvaluateOptions, progress: Progress) -> Evaluation:
    from levit_edge.pipeline.evaluate import evaluate

    return evaluate(options, progress)


def show(options: EvaluateOptions, result: Evaluation) -> Iterator[RenderableType]:
    """The accuracy of one bundle, and its gates."""
    from levit_edge.cli.tables import gate_report, table
    from levit_edge.report.figures import ACCURACY, closeness_text, evaluation_text, text_rows

    rows = text_rows(ACCURACY, result.accuracy)
    if result.local is not None:
        rows.append((f"agreement with {result.local.runtime} here", closeness_text(result.local)))
    yield table(f"{options.bundle} ({result.target})", ("", ""), rows)
    if result.images is not None:
        yield evaluation_text(result.images)
    if result.gates:
        yield from gate_report(f"gates: {result.verdict}", result.gates)


VERB = Verb(
    name="eval",
    help="Measure a bundle's accuracy against its float reference.",
    examples=("levit-edge eval dist/onnx --data ./labelled-photos --limit 500",),
    options=EvaluateOptions,
    run=_run,
    show=show,
    exit_code=lambda result: DONE if result.passed else GATE_FAILED,
)
