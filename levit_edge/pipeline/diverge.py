"""The first layer where the runtime of a bundle departs from the quantized program that the bundle was lowered from.

The layers (convolutions, linear layers, matrix products) of the bundle's own model file are read out while its runtime
computes one image, and compared with the program in torch. Small differences are inherited from layer to layer and
grow, so that the end of a healthy network is no measure. Therefore each layer is judged by itself:
the program computes it from the runtime's own values of the layers before it, which it should give again.

A layer departs when

- its scale or zero point in the file is not the program's, or
- a value differs by more than MOST_STEPS steps, or
- the values differ by more than MEAN_STEPS steps on average (over at least ENOUGH_VALUES values).

A step is the layer's scale, or 1/255 of its range where it is stored as float. A runtime that is right rounds a tie the
other way here and there, by one step, and float16 adds to that; a wrong weight or a dropped bias costs many steps in
its own layer and nothing in the others. Faults below the limits go unseen, a zero point that is 1 off among them
where it weighs less.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from calibration import check_size, image_pixels, normalize
from levit_edge.bundle.files import clear_os_errors
from levit_edge.bundle.manifest import PROGRAM_NAME, Bundle, open_bundle
from levit_edge.errors import InputError, LevitEdgeError
from levit_edge.metrics.sqnr import sqnr_db
from levit_edge.pipeline.verify import one_torch_thread
from targets.program import Affine, Layer, check_aligned, probe
from targets.program import replay as program_tap
from targets.target import Image, Logits

MOST_STEPS = 3.0
MEAN_STEPS = 0.25
ENOUGH_VALUES = 64
SAME_SCALE = 1e-3  # relative: Core ML keeps scales in float16
FLOAT_STEPS = 255


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Difference(_Result):
    """How far the values of a layer are from others, in steps and as signal to noise ratio.

    ``sqnr_db`` is None when there is no finite value: the values are equal, or not finite; ``max_steps`` and
    ``mean_steps`` are None when they are not finite. ``differing_share`` is the part of the values, 0 to 1, that are
    more than half a step away: of the integers that differ, where the layer is stored as integers.
    """

    sqnr_db: float | None
    max_steps: float | None
    mean_steps: float | None
    differing_share: float = Field(ge=0, le=1)


class LayerRow(_Result):
    """One layer. ``program``: the runtime against the program, both from the image on; ``local``: against what the
    program makes of the runtime's own earlier layers; ``float_sqnr_db``: against the float reference in the same
    runtime, None without a finite value. ``departs`` says why the layer departs, and is empty if it does not.
    """

    index: int = Field(ge=0)
    kind: str
    name: str
    shape: tuple[int, ...]
    stored: bool
    program: Difference
    local: Difference
    float_sqnr_db: float | None
    departs: str = ""


class Divergence(_Result):
    """Every layer of a bundle in the order of execution; ``first`` is the index of the first that departs, or None.

    ``executed`` is false where the runtime is not the target's own. ``undisturbed``: the logits were the same, bit for
    bit, as without reading the layers out; where ``executed`` is false that is so by construction.
    """

    bundle: str
    target: str
    image: str
    runtime: str
    executed: bool
    undisturbed: bool
    first: int | None
    layers: tuple[LayerRow, ...]


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


def _difference(found: Layer, expected: Layer, step: float) -> Difference:
    steps = _steps(found, expected, step)
    return Difference(
        sqnr_db=_finite(sqnr_db(expected.values, found.values)) if np.isfinite(steps).all() else None,
        max_steps=_finite(steps.max()),
        mean_steps=_finite(steps.mean()),
        differing_share=float((~(steps <= 0.5)).mean()),
    )


def _step(layer: Layer) -> float:
    """The scale of a stored layer, or what it would roughly be; 1 for a layer without any range."""
    return layer.affine.scale if layer.affine else float(np.ptp(layer.values)) / FLOAT_STEPS or 1.0


def _other_parameters(found: Affine, expected: Affine) -> str:
    if abs(found.scale - expected.scale) > SAME_SCALE * expected.scale:
        return f"its scale is {found.scale:.6g}, the program's {expected.scale:.6g}"
    if found.zero_point != expected.zero_point:
        return f"its zero point is {found.zero_point}, the program's {expected.zero_point} (counted from 0)"
    return ""


def _departs(found: Layer, expected: Layer, local: Difference) -> str:
    """Why a layer departs from what is ``expected``, or nothing."""
    if found.affine and expected.affine and (reason := _other_parameters(found.affine, expected.affine)):
        return reason
    if local.max_steps is None or local.mean_steps is None:
        return "it has values that are not finite"
    if local.max_steps > MOST_STEPS:
        return f"a value is {local.max_steps:.1f} steps off"
    if local.mean_steps > MEAN_STEPS and found.data.size >= ENOUGH_VALUES:
        return f"the values are {local.mean_steps:.2f} steps off on average"
    return ""


def compare(
    found: Sequence[Layer], program: Sequence[Layer], local: Sequence[Layer], floats: Sequence[Layer]
) -> tuple[LayerRow, ...]:
    """A row for each layer that the runtime ``found``; all four have the same layers (see ``check_aligned``).

    ``program`` ran by itself, ``local`` with what was found of the earlier layers; ``floats`` are the reference's.
    """
    rows = []
    for index, (layer, free, given, reference) in enumerate(zip(found, program, local, floats, strict=True)):
        step = _step(free)
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


def read_image(bundle: Bundle, image: Path) -> Image:
    """An image file as the bundle's model takes it: float32 [1, C, H, W]. InputError when it is none, or too small."""
    if not image.is_file():
        raise InputError(f"{image} does not exist or is not a file; name an image file")
    with clear_os_errors(image):
        data = image.read_bytes()
    preprocessing = bundle.manifest.preprocessing
    pixels = image_pixels(data, str(image), preprocessing)
    height, width = bundle.manifest.inputs[0].shape[2:]
    check_size(pixels, (height, width), str(image))
    batch: Image = normalize(pixels, preprocessing)[None]
    return batch


def diverge(bundle: Path, image: Path) -> Divergence:
    """Compare every layer of the bundle's model, as the runtime of this machine computes it, with its program.

    A device's runtime is not looked at. ``image`` is the file of one image. Raises InputError when the bundle is not as
    it was built or does not match its program, or the image is none; LevitEdgeError when the runtime gives other
    logits while its layers are read out.
    """
    opened = open_bundle(bundle)
    chosen = probe(opened.manifest.target)
    opened.verify()
    pixels, program = read_image(opened, image), program_tap.load(bundle / PROGRAM_NAME)
    with one_torch_thread():
        runner = chosen.load(opened.model_path)
        found, floats = chosen.tap(opened.model_path, pixels), chosen.tap(opened.reference_path, pixels)
        expected = program_tap.tap(program, pixels)
        for path, layers in ((opened.model_path, found), (opened.reference_path, floats)):
            check_aligned(layers, expected, str(path), "its program")
        _check_stored(opened.model_path, found, expected)
        _check_undisturbed(opened.model_path, runner(pixels), found)
        rows = compare(found, expected, program_tap.replay(program, pixels, found), floats)
    return Divergence(
        bundle=str(bundle),
        target=opened.manifest.target,
        image=str(image),
        runtime=runner.runtime,
        executed=runner.executed,
        undisturbed=True,
        first=next((row.index for row in rows if row.departs), None),
        layers=rows,
    )
