"""Does a saved ``.mlpackage`` hold the constants of its program, and does each of its layers compute the right values?

:mod:`constants` compares scales, zero points, weights and biases one by one, so that none is lost or changed unseen.
:mod:`layers` then shows that each constant is in its place.
"""

from __future__ import annotations

from pathlib import Path

from torch.export import ExportedProgram

from targets.coreml.verify.constants import check_constants
from targets.coreml.verify.layers import check_layers
from targets.runner import Image

__all__ = ["verify"]


def verify(package: Path, program: ExportedProgram, half: bool, images: Image) -> None:
    """LevitEdgeError, naming the first fault, unless ``package`` has the constants and the layers of ``program``.

    ``half``: the package was converted to float16. ``images`` are float32 [B, C, H, W]; two are enough.
    """
    check_constants(package, program, half)
    check_layers(package, program, half, images)
