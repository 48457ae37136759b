"""One target's part of a build: quantize, lower, load again from disk, compare, describe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.export import ExportedProgram

from calibration import Batch
from levit_edge.bundle.manifest import (
    PROGRAM_NAME,
    CalibrationInfo,
    Manifest,
    RecipeInfo,
    TensorSpec,
    write_golden,
    write_manifest,
)
from levit_edge.pipeline.load import Subject
from levit_edge.pipeline.verify import FLOAT_MATCH_DB, check_integer_match, check_match, run_each
from levit_edge.progress import Progress
from quantize.flow import quantize
from quantize.recipes import Recipe
from quantize.statistics import Histogram
from targets.program.replay import run as run_program
from targets.target import INPUT_NAME, OUTPUT_NAME, Runner, Target

GOLDEN_IMAGES = 4
INTEGER_MATCH_DB = 25.0  # trained models reach 37 dB and more
HALF_MATCH_DB = 40.0  # float16 keeps 11 bits


@dataclass(frozen=True)
class Lowered:
    """A bundle in the making: its folder, the quantized program, and both of its models loaded from disk."""

    target: Target
    folder: Path
    program: ExportedProgram
    runner: Runner
    reference: Runner
    warnings: tuple[str, ...]

    @property
    def model_path(self) -> Path:
        """The model file, or its folder for Core ML."""
        return self.folder / self.target.model_file

    @property
    def reference_path(self) -> Path:
        """The float reference of the same target."""
        return self.folder / self.target.reference_file


def lower_target(
    target: Target,
    subject: Subject,
    recipe: Recipe,
    histograms: Mapping[str, Histogram],
    numerics: Batch,
    folder: Path,
    threads: int,
    progress: Progress,
) -> Lowered:
    """Write both model files into ``folder``, load them from there and check them; LevitEdgeError if they differ."""
    folder.mkdir()
    with progress.step(f"{target.name}: quantize"):
        program = quantize(subject.program, subject.example, recipe, target.scheme, histograms)
    with progress.step(f"{target.name}: lower {recipe.name}"):
        target.backend.lower(program, folder / target.model_file, recipe.half)
    with progress.step(f"{target.name}: lower the float reference"):
        target.backend.lower(subject.program, folder / target.reference_file, False)
    torch.export.save(program, folder / PROGRAM_NAME)
    with progress.step(f"{target.name}: compare with the program"):
        runner = target.backend.load(folder / target.model_file, threads)
        reference = target.backend.load(folder / target.reference_file, threads)
        if (verify := target.backend.verify) is not None:  # first, because it names the fault
            verify(folder / target.model_file, program, recipe.half, numerics.inputs)
            verify(folder / target.reference_file, subject.program, False, numerics.inputs)
        _check(target, recipe, subject, program, runner, reference, numerics)
    return Lowered(target, folder, program, runner, reference, _warnings(target, recipe, runner))


def _check(
    target: Target,
    recipe: Recipe,
    subject: Subject,
    program: ExportedProgram,
    runner: Runner,
    reference: Runner,
    numerics: Batch,
) -> None:
    floats = run_program(subject.program, numerics.inputs)
    check_match(f"{target.name} float reference", run_each(reference, numerics.inputs), floats, FLOAT_MATCH_DB)
    expected = floats if program is subject.program else run_program(program, numerics.inputs)
    name, found = f"{target.name} {recipe.name}", run_each(runner, numerics.inputs)
    if recipe.calibrates:
        check_integer_match(name, found, expected, floats, INTEGER_MATCH_DB)
    else:
        check_match(name, found, expected, HALF_MATCH_DB if recipe.half else FLOAT_MATCH_DB)


def _warnings(target: Target, recipe: Recipe, runner: Runner) -> tuple[str, ...]:
    if runner.executed:
        return ()
    half = " with float16 rounding" if recipe.half else ""
    text = (
        f"this machine cannot execute it: the figures are those of the shipped {target.model_file}, interpreted "
        f"operator by operator{half} ({runner.runtime}), whose time is no latency; "
        "`levit-edge eval` on macOS executes it"
    )
    return (text,)


def describe(
    lowered: Lowered, subject: Subject, recipe: Recipe, calibration: CalibrationInfo | None, numerics: Batch
) -> None:
    """Add the golden values and the manifest: the bundle is complete after this."""
    golden = slice(0, GOLDEN_IMAGES)
    inputs = numerics.inputs[golden]
    write_golden(
        lowered.folder,
        pixels=numerics.pixels[golden],
        inputs=inputs,
        logits=run_each(lowered.runner, inputs),
        names=numerics.names[golden],
        runtime=lowered.runner.runtime,
    )
    write_manifest(lowered.folder, _manifest(lowered.target, subject, recipe, calibration))


def _manifest(target: Target, subject: Subject, recipe: Recipe, calibration: CalibrationInfo | None) -> Manifest:
    size, channels = subject.config.image_size, subject.config.num_channels
    image = TensorSpec(
        name=INPUT_NAME,
        dtype="float32",
        shape=(1, channels, size, size),
        layout="NCHW",
        range=_input_range(subject),
    )
    logits = TensorSpec(name=OUTPUT_NAME, dtype="float32", shape=(1, len(subject.labels)), layout="NC")
    return Manifest(
        target=target.name,
        model=subject.info,
        labels=subject.labels,
        preprocessing=subject.preprocessing,
        inputs=(image,),
        outputs=(logits,),
        recipe=RecipeInfo(name=recipe.name, settings=recipe.settings()),
        calibration=calibration if recipe.calibrates else None,
        tool_versions=target.versions(),
        model_file=target.model_file,
        reference_file=target.reference_file,
        options=dict(target.options),
    )


def _input_range(subject: Subject) -> tuple[float, float]:
    """What the preprocessing makes of the darkest and the brightest pixel, over all channels."""
    from calibration import normalize

    extremes = np.array([0, 255], dtype=np.uint8)
    pixels = np.repeat(extremes[:, None], subject.config.num_channels, axis=1)[:, None, None, :]  # [2, 1, 1, C]
    values = normalize(pixels, subject.preprocessing)
    return float(values.min()), float(values.max())
