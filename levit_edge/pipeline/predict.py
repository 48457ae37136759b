"""``levit-edge predict``: the most probable classes of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from levit_edge.pipeline.bundles import open_verified, read_image
from levit_edge.pipeline.options import PredictOptions
from levit_edge.progress import QUIET, Progress
from levit_edge.report.answers import LabelScore, Prediction, Predictions
from targets.runner import Logits


def predict(options: PredictOptions, progress: Progress = QUIET) -> Predictions:
    """The most probable classes of every image; InputError for a changed bundle or a file that is no usable image."""
    bundle, target = open_verified(options.bundle)
    runner = target.backend.load(bundle.model_path, 1)
    found = [
        Prediction(
            image=str(image),
            runtime=runner.runtime,
            executed=runner.executed,
            top=_scores(runner(read_image(bundle, image))[0], bundle.manifest.labels, options.top),
        )
        for image in progress.track(options.images, "predict", len(options.images))
    ]
    return Predictions(bundle=str(options.bundle), images=tuple(found))


def _scores(logits: Logits, labels: Sequence[str], top: int) -> tuple[LabelScore, ...]:
    """Softmax probabilities of logits [classes], best first."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max())
    percent = 100 * exponentials / exponentials.sum()
    order = np.argsort(-percent, kind="stable")[:top]
    return tuple(LabelScore(label=labels[index], probability_pct=float(percent[index])) for index in order)
