"""The options that verbs share, each named once."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class TargetName(StrEnum):
    """What ``--target`` takes."""

    EXECUTORCH = "executorch"
    COREML = "coreml"
    ONNX = "onnx"
    ALL = "all"


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Device = Annotated[str, typer.Option(metavar="D", help="local, or an emulated ARM processor: qemu-arm64[:CPU].")]
Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="Use at most N images.")]
Runs = Annotated[int, typer.Option(min=1, metavar="N", help="Rounds of the latency measurement.")]
BenchRuns = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Timed rounds, or counted inferences on an emulator.", show_default="60 or 5"
    ),
]
Threads = Annotated[
    int, typer.Option(min=1, max=os.cpu_count() or 1, metavar="N", help="Threads of the latency measurement.")
]
ThresholdsFile = Annotated[
    Path | None,
    typer.Option("--thresholds", metavar="FILE", help="TOML file with limits that replace the default ones."),
]
BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of a bundle, such as dist/onnx.")]
BundlePaths = Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Folders of bundles.")]
DivergeImage = Annotated[
    Path | None,
    typer.Option(
        metavar="IMAGE", help="Show the first layer where this machine's runtime departs from the quantized program."
    ),
]
ImagePaths = Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")]
ReportPath = Annotated[Path, typer.Argument(metavar="REPORT", help="report.json of a build.")]

Model = Annotated[
    str | None,
    typer.Option(metavar="M", help="Checkpoint: a directory, a file or a Hub id; without it, the embedded demo."),
]
Targets = Annotated[
    list[TargetName] | None,
    typer.Option("--target", metavar="NAME", help="executorch, coreml, onnx or all; repeatable.", show_default="all"),
]
CalibrationData = Annotated[
    Path | None, typer.Option(metavar="DATA", help="Images that choose the scales: a folder or an archive, no labels.")
]
EvalData = Annotated[Path | None, typer.Option("--eval", metavar="DATA", help="Images that measure the accuracy.")]
Data = Annotated[Path | None, typer.Option(metavar="DATA", help="Images; without it, the demo's for a demo bundle.")]
Recipe = Annotated[str, typer.Option(metavar="NAME|FILE.toml", help="How to quantize: int8, fp32, fp16 or w8a16.")]
Samples = Annotated[int, typer.Option(min=1, metavar="N", help="Calibration images to draw.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Seed of the draw.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Where the bundles and the report go.")]
RandomWeights = Annotated[bool, typer.Option("--random-weights", help="Let M be a variant name, without a checkpoint.")]
SkipBadImages = Annotated[bool, typer.Option("--skip-bad-images", help="List damaged images instead of stopping.")]
Labels = Annotated[Path | None, typer.Option(metavar="FILE", help="Text file with one class name a line.")]
Baseline = Annotated[Path | None, typer.Option(metavar="FILE", help="Report of an earlier release to compare with.")]
JunitFile = Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write the results as JUnit XML.")]
