"""A model family that one registry row adds goes through a build for every target: another network, the same flow."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from levit_edge.bundle.golden import read_golden
from levit_edge.bundle.manifest import open_bundle
from levit_edge.families.registry import FAMILIES
from levit_edge.pipeline.build import build
from levit_edge.pipeline.options import BuildOptions
from targets.registry import TARGETS
from tests.levit_edge.families.tiny_vit import IMAGE_SIZE, LABELS, TINY_VIT, VARIANT
from tests.levit_edge.pipeline.conftest import CLASSES, PER_CLASS, Built


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, TINY_VIT.name, TINY_VIT)


@pytest.mark.parametrize("targets", [("onnx",), pytest.param(("all",), marks=pytest.mark.slow)])
def test_another_family_is_built(targets: tuple[str, ...], built: Built, tmp_path: Path) -> None:
    """Position embedding, LayerNorm, GELU and a layer without bias: each is annotated rightly or stays float.

    It is judged on the images that calibrated it, so that only rounding is left: 37 dB on each target. An activation
    that was clipped wrongly, or a scale that belongs to another tensor, costs far more than the 7 dB to the bound.
    """
    checkpoint = TINY_VIT.random(VARIANT, LABELS)
    path, labels, out = tmp_path / "tiny.safetensors", tmp_path / "labels.txt", tmp_path / "dist"
    save_file(checkpoint.model.state_dict(), path)
    labels.write_text("\n".join(LABELS))
    options = BuildOptions(
        model=str(path),
        targets=targets,
        labels=labels,
        calibration=built.images,
        samples=len(CLASSES) * PER_CLASS,
        eval_data=built.images,
        out=out,
        runs=3,
    )
    report = build(options)
    assert (report.model.image_size, report.model.num_labels) == (IMAGE_SIZE, len(LABELS))
    assert report.model.sha256 == checkpoint.sha256
    assert len(report.targets) == (len(TARGETS) if targets == ("all",) else 1)
    for name, entry in report.targets.items():
        assert entry.accuracy is not None and entry.accuracy.sqnr_db is not None
        assert entry.accuracy.sqnr_db > 30, name
        assert entry.delegation is not None and entry.delegation.int8_ops > 0
        golden = read_golden(out / name)
        with torch.no_grad():
            expected = checkpoint.model(torch.from_numpy(golden.inputs)).numpy()
        assert abs(expected - golden.logits).max() < 0.1 * (expected.max() - expected.min()), name


def test_random_weights_are_known_in_report_and_manifest(built: Built, tmp_path: Path) -> None:
    report = build(built.options(tmp_path, model=VARIANT, random_weights=True))
    assert report.model.random_weights and open_bundle(tmp_path / "onnx").manifest.model.random_weights
    assert not built.report.model.random_weights
    assert not open_bundle(built.out / "onnx").manifest.model.random_weights
