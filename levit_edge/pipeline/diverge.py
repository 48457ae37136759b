"""The first layer where the runtime of a bundle departs from the quantized program that the bundle was lowered from.

The layers (convolutions, linear layers, matrix products) are read out of the bundle's own model file while its runtime
computes one image, and compared with the program in torch. A small difference in an early layer is inherited by all
later ones and grows on the way, so the last layers of a healthy network say little. Therefore each layer is judged by
itself: the program computes it from the values that the runtime had for the layers before it, and should get the same.

A layer departs when

- its scale or zero point in the file is not the program's, or
- one of its values is more than MOST_STEPS steps away, or
- its values are more than MEAN_STEPS steps away on average (over at least ENOUGH_VALUES values).

A step is the layer's scale, or 1/255 of its range where it is stored as float. A correct runtime rounds some ties the
other way, which is one step, and float16 adds to that. A wrong weight or a dropped bias costs many steps in its own
layer and none in the others. A fault that stays below these limits is not found; a zero point that is off by one can
be such a fault in a layer where it weighs little.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from levit_edge.bundle.manifest import PROGRAM_NAME
from levit_edge.errors import InputError, LevitEdgeError
from levit_edge.metrics.sqnr import sqnr_db
from levit_edge.pipeline.bundles import open_verified, read_image
from levit_edge.pipeline.verify import one_torch_thread
from levit_edge.report.divergence import Difference, Divergence, LayerRow
from targets.program import replay as program_replay
from targets.program.tap import Affine, Layer, check_aligned
from targets.runner import Logits

MOST_STEPS = 3.0
MEAN_STEPS = 0.25
ENOUGH_VALUES = 64
SAME_SCALE = 1e-3  # relative: a backend may keep scales in float16
FLOAT_STEPS = 255


def diverge(path: Path, image: Path) -> Divergence:
    """Compare every layer of the bundle's model, as the runtime of this machine computes it, with its program.

    A device's runtime is not looked at. ``image`` is the file of one image. Raises InputError when the bundle is not as
    it was built or does not match its program, or ``image`` is no image; LevitEdgeError when the runtime gives other
    logits while its layers are read out.
    """
    bundle, target = open_verified(path)
    tap = target.backend.tap
    if tap is None:
        raise InputError(f"{path}: the layers of a {target.name} bundle cannot be read out")
    pixels, program = read_image(bundle, image), program_replay.load(path / PROGRAM_NAME)
    with one_torch_thread():
        load = target.backend.load_for_tap or target.backend.load
        runner = load(bundle.model_path, 1)
        found, floats = tap(bundle.model_path, pixels), tap(bundle.reference_path, pixels)
        expected = program_replay.tap(program, pixels)
        for file, layers in ((bundle.model_path, found), (bundle.reference_path, floats)):
            check_aligned(layers, expected, str(file), "its program")
        _check_stored(bundle.model_path, found, expected)
        _check_undisturbed(bundle.model_path, runner(pixels), found)
        rows = compare(found, expected, program_replay.replay(program, pixels, found), floats)
    return Divergence(
        bundle=str(path),
        target=target.name,
        image=str(image),
        runtime=runner.runtime,
        executed=runner.executed,
        undisturbed=True,
        first=next((row.index for row in rows if row.departs), None),
        layers=rows,
    )


def compare(
    found: Sequence[Layer], program: Sequence[Layer], local: Sequence[Layer], floats: Sequence[Layer]
) -> tuple[LayerRow, ...]:
    """A row for each layer that the runtime ``found``; all four have the same layers (see ``check_aligned``).

    ``program`` ran by itself, ``local`` with what was found of the earlier layers; ``floats`` are the reference's.
    """
    rows = []
    for index, (layer, free, given, reference) in enumerate(zip(found, program, local, floats, strict=True)):
        step = free.affine.scale if free.affine else float(np.ptp(free.values)) / FLOAT_STEPS or 1.0
        alone = _difference(layer, given, step)
        rows.append(
            LayerRow(
                index=index,
                kind=layer.kind,
                name=free.name,
                shape=layer.data.shape,
                stored=layer.affine is not None,
                program=_difference(layer, free, step),
                local=alone,
                float_sqnr_db=_difference(layer, reference, step).sqnr_db,
                departs=_departs(layer, free, alone),
            )
        )
    return tuple(rows)


def _difference(found: Layer, expected: Layer, step: float) -> Difference:
    steps = _steps(found, expected, step)
    return Difference(
        sqnr_db=_finite(sqnr_db(expected.values, found.values)) if np.isfinite(steps).all() else None,
        max_steps=_finite(steps.max()),
        mean_steps=_finite(steps.mean()),
        differing_share=float((~(steps <= 0.5)).mean()),
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _steps(found: Layer, expected: Layer, step: float) -> NDArray[np.float64]:
    """Distance of every value: in integers where both are stored as such, or in ``step`` of the real numbers."""
    if found.affine and expected.affine:
        shift = found.affine.zero_point - expected.affine.zero_point
        apart: NDArray[np.float64] = found.data.astype(np.float64) - expected.data - shift
        return np.abs(apart)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        return np.abs(found.values.astype(np.float64) - expected.values) / step


def _departs(found: Layer, expected: Layer, local: Difference) -> str:
    """Why a layer departs from what is ``expected``; empty if it does not."""
    if found.affine and expected.affine and (reason := _other_parameters(found.affine, expected.affine)):
        return reason
    if local.max_steps is None or local.mean_steps is None:
        return "it has values that are not finite"
    if local.max_steps > MOST_STEPS:
        return f"a value is {local.max_steps:.1f} steps off"
    if local.mean_steps > MEAN_STEPS and found.data.size >= ENOUGH_VALUES:
        return f"the values are {local.mean_steps:.2f} steps off on average"
    return ""


def _other_parameters(found: Affine, expected: Affine) -> str:
    if abs(found.scale - expected.scale) > SAME_SCALE * expected.scale:
        return f"its scale is {found.scale:.6g}, the program's {expected.scale:.6g}"
    if found.zero_point != expected.zero_point:
        return f"its zero point is {found.zero_point}, the program's {expected.zero_point} (counted from 0)"
    return ""


def _check_stored(path: Path, found: Sequence[Layer], program: Sequence[Layer]) -> None:
    for index, (layer, expected) in enumerate(zip(found, program, strict=True)):
        if (layer.affine is None) != (expected.affine is None):
            kinds = ("float", "integers") if layer.affine is None else ("integers", "float")
            raise InputError(
                f"{path} does not match its program: layer {index} ({expected.name}) is stored as {kinds[0]}, "
                f"expected {kinds[1]}"
            )


def _check_undisturbed(path: Path, logits: Logits, found: Sequence[Layer]) -> None:
    """LevitEdgeError unless the last layer ``found`` is, bit for bit, the ``logits`` of the untouched file."""
    if not np.array_equal(logits, found[-1].values, equal_nan=True):
        raise LevitEdgeError(
            f"{path} gives other logits while its layers are read out, so they say nothing about it; "
            "compare it on another image, or with another version of its runtime"
        )
