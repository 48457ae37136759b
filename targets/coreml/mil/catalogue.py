"""Every operator that the interpreter computes, by its name in the MIL operator reference."""

from __future__ import annotations

from targets.coreml.mil import activations, elementwise, layers, quantization, reductions, shapes
from targets.coreml.mil.operator import Operator

OPERATORS: dict[str, Operator] = {
    **elementwise.OPERATORS,
    **activations.OPERATORS,
    **layers.OPERATORS,
    **quantization.OPERATORS,
    **reductions.OPERATORS,
    **shapes.OPERATORS,
}
