"""``levit-edge predict``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from levit_edge.cli.verb import Verb
from levit_edge.pipeline.options import PredictOptions
from levit_edge.progress import Progress

if TYPE_CHECKING:  # the help does not wait for what only an answer needs
    from rich.console import RenderableType

    from levit_edge.report.answers import Predictions


def _run(options: PredictOptions, progress: Progress) -> Predictions:
    from levit_edge.pipeline.predict import predict

    return predict(options, progress)


def show(options: PredictOptions, answer: Predictions) -> Iterator[RenderableType]:
    """A heading per image, then its labels, best first."""
    del options
    for image in answer.images:
        yield f"{image.image} ({image.runtime}{'' if image.executed else ', simulated'})"
        yield from (f"  {score.probability_pct:6.2f} %  {score.label}" for score in image.top)


VERB = Verb(
    name="predict",
    help="Show the five most probable labels of each image.",
    examples=("levit-edge predict dist/onnx cat.jpg dog.jpg",),
    options=PredictOptions,
    run=_run,
    show=show,
)
