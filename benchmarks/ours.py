"""The bundles of ``levit-edge build``: the int8 models and their float references."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.entry import Entry, Family, Precision, file_size
from levit_edge.bundle.manifest import Bundle, open_bundle
from levit_edge.demo import is_demo
from levit_edge.errors import InputError
from targets.registry import target

FAMILIES: dict[str, Family] = {"onnx": "onnxruntime", "executorch": "executorch", "coreml": "coreml"}
TITLES: dict[Family, str] = {"onnxruntime": "ONNX Runtime", "executorch": "ExecuTorch", "coreml": "Core ML"}
EXECUTED = ("onnx", "executorch")  # the targets whose files run on every machine, so that their latency can be compared


def build(dist: Path, targets: Iterable[str], samples: int, seed: int) -> list[Entry]:
    """Float and int8 of each target in ``dist``; InputError where it is no demo build calibrated on the same images."""
    entries = []
    for name in targets:
        bundle, family = _open(dist / name, samples, seed), FAMILIES[name]
        recipe = bundle.manifest.recipe.name
        entries.append(_entry(name, family, "float32", bundle.reference_path, "fused model, float"))
        entries.append(_entry(name, family, "int8", bundle.model_path, f"fused model, recipe {recipe}"))
    return entries


def _open(path: Path, samples: int, seed: int) -> Bundle:
    bundle = open_bundle(path)
    bundle.verify()
    manifest = bundle.manifest
    if not is_demo(manifest.model.sha256, manifest.labels):
        raise InputError(f"{path} holds {manifest.model.source}; build the demo with `levit-edge build`")
    calibration = manifest.calibration
    if calibration is None or (calibration.samples, calibration.seed) != (samples, seed):
        raise InputError(f"{path} was not calibrated on {samples} images with seed {seed}; the peers would be")
    return bundle


def _entry(name: str, family: Family, precision: Precision, path: Path, how: str) -> Entry:
    chosen = target(name)
    return Entry(
        name=f"ours-{family}-{precision}",
        title=f"levit-edge, {TITLES[family]}",
        family=family,
        precision=precision,
        how=how,
        runner=chosen.backend.load(path, 1),
        size_bytes=file_size(path),
        delegates=chosen.backend.contents(path).delegates,
    )
