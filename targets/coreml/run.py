"""Running a ``.mlpackage``: in Core ML on macOS, in the reference interpreter elsewhere."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import numpy as np

from levit_edge.errors import MissingComponentError
from targets.coreml import mil
from targets.runner import Image, Logits
from targets.target import INPUT_NAME, OUTPUT_NAME


class CoreMLRunner:
    """A ``.mlpackage`` in Core ML on this Mac's CPU."""

    executed = True

    def __init__(self, path: Path) -> None:
        import coremltools

        self._model = coremltools.models.MLModel(str(path), compute_units=coremltools.ComputeUnit.CPU_ONLY)
        if self._model.__proxy__ is None:  # coremltools only warns when it could not load the model
            raise MissingComponentError("Core ML for iOS 17 models", "softwareupdate --install (macOS 14 or later)")
        self.runtime = f"coreml-macos-{platform.mac_ver()[0]}-cpu"

    def __call__(self, image: Image) -> Logits:
        logits: Logits = self._model.predict({INPUT_NAME: image})[OUTPUT_NAME].astype(np.float32)
        return logits


class ReferenceRunner:
    """A ``.mlpackage`` in the reference interpreter: every operator of the file on disk, float16 rounding included."""

    executed = False
    runtime = "mil-reference"

    def __init__(self, path: Path) -> None:
        self._program = mil.load(path)

    def __call__(self, image: Image) -> Logits:
        return self._program.run(image)

    def batch(self, images: Image) -> Logits:
        """float32 [B, C, H, W] -> float32 [B, classes], several images at once."""
        return self._program.run(images)


def load(path: Path, threads: int) -> CoreMLRunner | ReferenceRunner:
    """Core ML on macOS, which chooses its own number of threads; the reference interpreter elsewhere."""
    return CoreMLRunner(path) if sys.platform == "darwin" else load_reference(path, threads)


def load_reference(path: Path, threads: int) -> ReferenceRunner:
    """The reference interpreter, which runs on any operating system and ignores ``threads``."""
    del threads
    return ReferenceRunner(path)
