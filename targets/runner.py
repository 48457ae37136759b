"""A loaded model as the flow sees it: logits for images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Logits = NDArray[np.float32]


class Runner(Protocol):
    """A loaded model. float32 [1, C, H, W] -> float32 [1, classes].

    ``runtime`` names what computes; ``executed`` is False when that is not the runtime of the target.
    """

    runtime: str
    executed: bool

    def __call__(self, image: Image) -> Logits: ...


@runtime_checkable
class BatchRunner(Protocol):
    """A runner that takes many images at once: float32 [B, C, H, W] -> [B, classes]."""

    def batch(self, images: Image) -> Logits: ...


def run_batch(runner: Callable[[Image], Logits] | BatchRunner, images: Image) -> Logits:
    """float32 [B, C, H, W] -> [B, classes]: all images at once where the runner can, else one at a time."""
    if isinstance(runner, BatchRunner):
        return runner.batch(images)
    return np.concatenate([runner(images[index : index + 1]) for index in range(len(images))])
