"""The first layer where the runtime of a bundle departs from the quantized program that the bundle was lowered from.

The layers (convolutions, linear layers, matrix products) are read out of the bundle's own model file while its runtime
computes one image, and compared with the program in torch. A small difference in an early layer is inherited by all
later ones and grows on the way, so the last layers of a healthy network say little. Therefore each layer is judged by
itself: the program computes it from the values that the runtime had for the layers before it, and should get the same.

Whether it does is decided where a build decides it too (:mod:`targets.program.judge`): value by value, with room only
for ties that are rounded the other way and for the rounding of floats. Where float operators compute in float16, the
verdict is on the same file without that rounding, and the figures show what it adds.

The figures are in steps: a step is the layer's scale, or 1/255 of its range where it is stored as float.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.export import ExportedProgram

from levit_edge.bundle.manifest import PROGRAM_NAME, Bundle
from levit_edge.errors import InputError, LevitEdgeError
from levit_edge.metrics.sqnr import sqnr_db
from levit_edge.pipeline.bundles import open_verified, read_image
from levit_edge.pipeline.verify import is_half, one_torch_thread
from levit_edge.report.divergence import Difference, Divergence, LayerRow
from targets.program import replay as program_replay
from targets.program.judge import judge as judge_layers
from targets.program.tap import Layer, check_aligned
from targets.runner import Image, Logits
from targets.target import Target

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
        local = program_replay.replay(program, pixels, found)
        rows = compare(found, expected, local, floats, _reasons(bundle, target, program, pixels, found))
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


def _reasons(
    bundle: Bundle, target: Target, program: ExportedProgram, pixels: Image, found: Sequence[Layer]
) -> tuple[str, ...]:
    """Why each layer departs from the program, empty where it does not."""
    if (judge := target.backend.judge) is not None:
        return judge(bundle.model_path, program, is_half(bundle.manifest), pixels)
    return judge_layers(program.module(), pixels, found)


def compare(
    found: Sequence[Layer],
    program: Sequence[Layer],
    local: Sequence[Layer],
    floats: Sequence[Layer],
    reasons: Sequence[str],
) -> tuple[LayerRow, ...]:
    """A row for each layer that the runtime ``found``; all have the same layers (see ``check_aligned``).

    ``program`` ran by itself, ``local`` with what was found of the earlier layers; ``floats`` are the reference's, and
    ``reasons`` say why a layer departs.
    """
    rows = []
    for index, (layer, free, given, reference, reason) in enumerate(
        zip(found, program, local, floats, reasons, strict=True)
    ):
        step = free.affine.scale if free.affine else float(np.ptp(free.values)) / FLOAT_STEPS or 1.0
        rows.append(
            LayerRow(
                index=index,
                kind=layer.kind,
                name=free.name,
                shape=layer.data.shape,
                stored=layer.affine is not None,
                program=_difference(layer, free, step),
                local=_difference(layer, given, step),
                float_sqnr_db=_difference(layer, reference, step).sqnr_db,
                departs=reason,
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
