"""Ways to damage a build of the demo, each with the gates that it has to trip."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from torch.export import ExportedProgram

from levit_edge.demo import CALIBRATION_FOLDER, DEMO_LABELS, EVALUATION_FOLDER, demo_archive, demo_checkpoint
from levit_edge.pipeline.calibrate import Calibrated, calibrate
from levit_edge.pipeline.plan import Job
from targets.ort.lower import lower
from targets.registry import TARGETS

Change = Callable[[Image.Image], Image.Image]

ROOT = Path(__file__).parents[1]
BLOCK = "blocks.8"
WIDER = 4.0
DARKER = 0.15
UNUSED_BYTES = 1_000_000
RETRAINED = 1e-3

UNDECIDED = " (undecided)"
ACCURACY = frozenset({"top1_drop_pp", "agreement_pct", "baseline_top1_drop_pp", "baseline_agreement_drop_pp"})
FEWER_RIGHT = ACCURACY | {f"{gate}{UNDECIDED}" for gate in ACCURACY} | {"baseline_sqnr_db"}
SLOWER = frozenset({"speedup", "baseline_speedup"})
SLOWER |= {f"{gate}{UNDECIDED}" for gate in SLOWER}


def _no_options(folder: Path) -> Mapping[str, Any]:
    del folder
    return {}


@dataclass(frozen=True)
class Damage:
    """One way to damage a build for ``target``.

    ``options`` gives the fields of :class:`BuildOptions` that carry the damage, and writes what they name into a
    folder; ``damaged`` holds the code damaged during the build. ``must`` are the gates that fail, or with UNDECIDED at
    the end stay undecided; ``may`` are those that can do so, too. Any other one is wrong. ``on_device``: the emulated
    core counts instructions.
    """

    name: str
    words: str
    target: str
    must: frozenset[str]
    may: frozenset[str] = frozenset()
    options: Callable[[Path], Mapping[str, Any]] = _no_options
    damaged: Callable[[], AbstractContextManager[object]] = nullcontext
    on_device: bool = False


def _wider_scales() -> AbstractContextManager[object]:
    """The range of every tensor of one block is too wide, as if a calibration had met outliers there."""

    def widened(job: Job) -> Calibrated:
        found = calibrate(job)
        inside = {node.name for node in job.subject.program.graph.nodes if _is_in_block(node.meta)}
        histograms = {
            name: histogram.scaled(WIDER) if name in inside else histogram
            for name, histogram in found.histograms.items()
        }
        return replace(found, histograms=histograms)

    return patch("levit_edge.pipeline.build.calibrate", widened)


def _is_in_block(meta: Mapping[str, Any]) -> bool:
    paths = [path for path, _ in meta.get("nn_module_stack", {}).values()]
    return any(re.search(rf"\b{re.escape(BLOCK)}\b", path) for path in paths)


def _images(folder: Path, part: str, change: Change | None = None) -> Path:
    """The demo's images of one ``part`` in a folder per class: the files as they are, or ``change`` of each as PNG."""
    with zipfile.ZipFile(demo_archive()) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith(f"{part}/")])
    if change is not None:
        for path in (folder / part).rglob("*.png"):
            with Image.open(path) as image:
                change(image.convert("RGB")).save(path)
    return folder / part


def _by_night(folder: Path) -> Mapping[str, Any]:
    """Calibrated on photographs as dark as by night, evaluated on those of the demo."""
    dark = _images(folder, CALIBRATION_FOLDER, lambda image: image.point(lambda value: round(value * DARKER)))
    return {"calibration": dark, "eval_data": _images(folder, EVALUATION_FOLDER)}


def _mirrored(folder: Path) -> Mapping[str, Any]:
    return {"eval_data": _images(folder, EVALUATION_FOLDER, ImageOps.mirror)}


def _retrained(folder: Path) -> Mapping[str, Any]:
    """Another checkpoint of the same shape: each weight is moved by about a thousandth of itself."""
    weights = load_file(ROOT / demo_checkpoint().source)
    generator = torch.Generator().manual_seed(0)
    moved = {
        name: tensor + tensor * RETRAINED * torch.randn(tensor.shape, generator=generator).to(tensor.dtype)
        for name, tensor in weights.items()
    }
    save_file(moved, folder / "retrained.safetensors")
    (folder / "labels.txt").write_text("\n".join(DEMO_LABELS), encoding="utf-8")
    return {
        "model": str(folder / "retrained.safetensors"),
        "labels": folder / "labels.txt",
        "calibration": _images(folder, CALIBRATION_FOLDER),
        "eval_data": _images(folder, EVALUATION_FOLDER),
    }


def _unfused_hardswish() -> AbstractContextManager[object]:
    """ONNX: Hardswish in float between integer layers, instead of the integer operators that the runtime has."""
    target = TARGETS["onnx"]
    return patch.dict(TARGETS, onnx=replace(target, scheme=replace(target.scheme, hardswish="float")))


def _unused_weights() -> AbstractContextManager[object]:
    """ONNX: a megabyte that nothing reads, in the file and not in the program."""

    def padded(program: ExportedProgram, path: Path, half: bool) -> None:
        lower(program, path, half)
        if path.name == TARGETS["onnx"].model_file:
            model = onnx.load(path)
            unused = onnx.numpy_helper.from_array(np.zeros(UNUSED_BYTES, np.uint8), "unused")
            model.graph.initializer.append(unused)
            onnx.save(model, path)

    return patch("targets.ort.lower.lower", padded)


@contextmanager
def _softmax_left_out() -> Iterator[None]:
    """ExecuTorch: a partitioner that leaves softmax to the portable kernels."""
    from executorch.backends.xnnpack.partition import xnnpack_partitioner
    from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS, SoftmaxConfig

    others = [config for config in ALL_PARTITIONER_CONFIGS if config is not SoftmaxConfig]
    partitioner = partial(xnnpack_partitioner.XnnpackPartitioner, configs=others)
    with patch.object(xnnpack_partitioner, "XnnpackPartitioner", partitioner):
        yield


DAMAGES = (
    Damage(
        "scales",
        f"ranges of every tensor of {BLOCK} times {WIDER:g}",
        "onnx",
        must=frozenset({"baseline_ranges"}),
        may=FEWER_RIGHT,
        damaged=_wider_scales,
    ),
    Damage(
        "calibration",
        f"calibrated on photographs at {DARKER:.0%} of their brightness",
        "onnx",
        must=frozenset({"baseline_calibration", "baseline_sqnr_db"}),
        may=FEWER_RIGHT,
        options=_by_night,
    ),
    Damage(
        "fusion",
        "Hardswish in float between integer layers",
        "onnx",
        must=frozenset({"baseline_device_instructions", "baseline_float_ops", "baseline_operator_changes"})
        | {"baseline_ranges"},
        may=SLOWER,
        damaged=_unfused_hardswish,
        on_device=True,
    ),
    Damage(
        "size",
        "a megabyte in the file that nothing reads",
        "onnx",
        must=frozenset({"size_ratio", "baseline_size_bytes"}),
        damaged=_unused_weights,
    ),
    Damage(
        "delegate",
        "softmax left out of the XNNPACK delegate",
        "executorch",
        must=frozenset({"delegates", "fallback_ops"})
        | {"baseline_delegates", "baseline_fallback_ops", "baseline_operator_changes"},
        may=SLOWER | {f"program_departures{UNDECIDED}", "baseline_size_bytes"},
        damaged=_softmax_left_out,
    ),
    Damage(
        "evaluation",
        "evaluated on mirrored photographs",
        "onnx",
        must=frozenset({"baseline_evaluation"}),
        options=_mirrored,
    ),
    Damage(
        "few images",
        "evaluated on 16 photographs",
        "onnx",
        must=frozenset({"baseline_evaluation", f"top1_drop_pp{UNDECIDED}", f"agreement_pct{UNDECIDED}"}),
        options=lambda _: {"limit": 16},
    ),
    Damage(
        "model",
        "another checkpoint: weights moved by a thousandth",
        "onnx",
        must=frozenset({"baseline_model"}),
        options=_retrained,
    ),
)
