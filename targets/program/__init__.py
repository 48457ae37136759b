"""Taps: what every layer of a model file really computes in its runtime, for one image.

Nothing of the file is computed anew: each tap runs the file itself, with more of its tensors shown.
"""

from targets.program.tap import Affine, Kind, Layer, check_aligned

__all__ = ["Affine", "Kind", "Layer", "check_aligned"]
