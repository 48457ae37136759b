"""The one judgement on layers: does a runtime compute, value by value, what the program does?

The program computes each layer from the values that the runtime itself had for the layers before it, so no error is
inherited. What then still differs in a healthy layer is bounded for each value on its own, and a value outside its
bound is a fault, even if it is the only one: one channel, one head or one token is found like a whole layer.

- A quantize operator between two layers may round a tie the other way: a layer may have any value that its operands
  then allow (:mod:`targets.program.bounds`).
- A layer that is stored as integers may itself round a tie the other way: the runtime's integer lies within half a
  step and TIE of the program's real number.
- Floats are added in another order: ROUNDING of the sum of the absolute products. Sums of 256 products cannot reach it
  in float32, and longer ones reach it only if nearly every rounding errs in the same direction.

The bounds hold for any kernel that multiplies integers exactly and rounds once at the end, and for any float32 kernel,
on whatever processor. tests/targets/program/test_judge.py says how far healthy files stay below them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import fx

from quantize.names import layer_name
from targets.program.bounds import TIE, Bound, bounds
from targets.program.replay import layer_nodes, stored_as
from targets.program.tap import Affine, Kind, Layer
from targets.runner import Image

SAME_SCALE = 1e-6  # relative: scales are kept in float32

_AXES: dict[Kind, tuple[str, ...]] = {
    "conv": ("", "channel", "row", "column"),
    "linear": ("token", "channel"),
    "matmul": ("head", "row", "column"),
}


def judge(module: fx.GraphModule, image: Image, found: Sequence[Layer]) -> tuple[str, ...]:
    """Why each layer of ``found`` is not the program's, or an empty text where it is.

    ``module`` computes the program with its constants as the file stores them; ``found`` are the layers that a runtime
    computed on ``image`` float32 [1, C, H, W], aligned with those of ``module`` (see :func:`alignment`).
    """
    return tuple(_reason(layer, bound) for layer, bound in zip(found, bounds(module, image, found), strict=True))


def alignment(found: Sequence[Layer], module: fx.GraphModule) -> str:
    """Why the layers cannot be compared one by one: how many there are, a shape, or how one is stored; else empty."""
    nodes = layer_nodes(module.graph)
    if len(found) != len(nodes):
        return f"the file has {len(found)} layers, the program {len(nodes)}"
    for layer, node in zip(found, nodes, strict=True):
        shape = tuple(node.meta["val"].shape)
        if layer.data.shape != shape:
            return f"{layer_name(node)}: the file computes {list(layer.data.shape)}, the program {list(shape)}"
        if (layer.affine is None) != (stored_as(node) is None):
            kinds = ("floats", "integers") if layer.affine is None else ("integers", "floats")
            return f"{layer_name(node)}: the file stores {kinds[0]}, the program {kinds[1]}"
    return ""


def _reason(layer: Layer, bound: Bound) -> str:
    if layer.affine is None or bound.parameters is None:
        step = float(np.ptp(bound.values)) / 255 or 1.0
        with np.errstate(invalid="ignore"):  # infinity less infinity
            beyond = np.abs(layer.values - bound.values) - bound.spread - bound.rounding
        return _described(layer.kind, beyond, step, "of its range")
    scale, zero_point, lowest, highest = bound.parameters
    if reason := _other_parameters(layer.affine, Affine(scale, zero_point - lowest)):
        return reason
    real = np.clip(bound.values / scale + zero_point, lowest, highest) - lowest
    room = 0.5 + TIE + (bound.spread + bound.rounding) / scale
    return _described(layer.kind, np.abs(layer.data - real) - room, 1.0, "")


def _other_parameters(found: Affine, expected: Affine) -> str:
    if abs(found.scale - expected.scale) > SAME_SCALE * expected.scale:
        return f"its scale is {found.scale:.6g}, the program's {expected.scale:.6g}"
    if found.zero_point != expected.zero_point:
        return f"its zero point is {found.zero_point}, the program's {expected.zero_point} (counted from 0)"
    return ""


def _described(kind: Kind, beyond: NDArray[np.float64], step: float, unit: str) -> str:
    """How many values are beyond their bounds, where, and how far; empty if none is."""
    wrong = ~(beyond <= 0)  # what is not finite is wrong
    if not wrong.any():
        return ""
    places = [text for axis, name in enumerate(_AXES[kind]) if (text := _place(wrong, axis, name))]
    where = f" ({', '.join(places)})" if places else ""
    if not np.isfinite(beyond[wrong]).all():
        return f"{int(wrong.sum())} of {wrong.size} values{where} are not finite"
    worst = beyond.max() / step
    how = f"{worst:.3g} steps" if not unit else f"{worst:.3g}/255 {unit}"
    return f"{int(wrong.sum())} of {wrong.size} values{where} are wrong, the worst by {how}"


def _place(wrong: NDArray[np.bool_], axis: int, name: str) -> str:
    """Which indices along ``axis`` the wrong values have, unless they spread over most of it."""
    others = tuple(other for other in range(wrong.ndim) if other != axis)
    indices = np.flatnonzero(wrong.any(axis=others))
    first, last = int(indices[0]), int(indices[-1])
    if not name or 2 * (last - first + 1) > wrong.shape[axis]:
        return ""
    return f"{name} {first}" if first == last else f"{name}s {first} to {last}"
