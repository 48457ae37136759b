"""What every side-by-side run starts from: the published model, the images, and a folder for the files it makes."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import stock
from levit_edge.demo import demo_checkpoint
from levit_edge.errors import LevitEdgeError
from levit_edge.pipeline.images import Selection, open_images
from levit_edge.pipeline.load import load
from levit_edge.pipeline.options import BuildOptions
from levit_edge.pipeline.verify import one_torch_thread
from levit_edge.progress import QUIET


@dataclass(frozen=True)
class Inputs:
    """The same for every recipe. ``calibration`` is float32 [samples, C, H, W], drawn with ``seed`` as in a build."""

    model: stock.Published
    calibration: stock.Images
    evaluation: Selection
    seed: int
    folder: Path


@contextmanager
def step(label: str) -> Iterator[None]:
    """Say on standard error how long the block took."""
    start = time.perf_counter()
    yield
    print(f"{label}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)


@contextmanager
def opened(options: BuildOptions) -> Iterator[Inputs]:
    """The inputs of ``options`` for the demo, with torch kept to one thread; InputError when an image is unusable."""
    with ExitStack() as stack:
        stack.enter_context(one_torch_thread())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        images = stack.enter_context(open_images(options, load(options), calibrates=True))
        assert images.calibration is not None and images.evaluation is not None
        calibration = np.concatenate([batch.inputs for batch in images.calibration.batches(QUIET, "")])
        model = stock.Published(demo_checkpoint().model).eval()
        yield Inputs(model, calibration, images.evaluation, options.seed, folder)


def publish(page: Path, compare: Callable[[], str]) -> int:
    """Write what ``compare`` says into ``page`` and print it. 2 when the input is bad."""
    try:
        text = compare()
    except LevitEdgeError as error:
        print(error, file=sys.stderr)
        return 2
    page.write_text(text, encoding="utf-8")
    print(text)
    return 0
