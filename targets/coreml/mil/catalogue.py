"""Every operator that the interpreter computes, by its name in the MIL operator reference.

They are those that coremltools emits, for iOS 17, for the convolutional and transformer networks that are built here.
The tests convert such networks: an operator that none of them contains does not belong here.
"""

from __future__ import annotations

from targets.coreml.mil import activations, elementwise, layers, quantization, shapes
from targets.coreml.mil.operator import Operator

OPERATORS: dict[str, Operator] = {
    **elementwise.OPERATORS,
    **activations.OPERATORS,
    **layers.OPERATORS,
    **quantization.OPERATORS,
    **shapes.OPERATORS,
}
