"""The exported program that a model file was lowered from: read safely, run, and replayed layer by layer."""

from targets.program.tap import Affine, Kind, Layer, check_aligned

__all__ = ["Affine", "Kind", "Layer", "check_aligned"]
