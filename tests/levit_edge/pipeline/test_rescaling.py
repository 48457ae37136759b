"""A build of a model with a few wide channels: repaired where the recipe says so, and the same float model."""

from __future__ import annotations

from pathlib import Path

from benchmarks.outlier_channels import with_outliers
from levit_edge.bundle.manifest import open_bundle
from levit_edge.families.levit.model import Levit
from levit_edge.families.load import load_checkpoint
from levit_edge.pipeline.build import build
from levit_edge.pipeline.options import SensitivityOptions
from levit_edge.pipeline.sensitivity import sensitivity
from tests.levit_edge.pipeline.conftest import SAMPLES, Built

LOST_DB = 6.0
OFF = "rescale_channels = false\n"


def test_wide_channels_cost_nothing_unless_rescaling_is_off(built: Built, tmp_path: Path) -> None:
    published = load_checkpoint(built.model).model
    assert isinstance(published, Levit)
    wide = with_outliers(published, 30.0, 2)
    (tmp_path / "off.toml").write_text(OFF, encoding="utf-8")
    plain = built.report.targets["onnx"].accuracy
    assert plain is not None and plain.sqnr_db is not None
    found = {}
    for recipe in ("int8", str(tmp_path / "off.toml")):
        out = tmp_path / Path(recipe).stem
        options = built.options(out, model=wide, recipe=recipe, calibration=built.images, seed=5)
        entry = build(options).targets["onnx"]
        assert entry.accuracy is not None and entry.accuracy.sqnr_db is not None
        settings = open_bundle(out / "onnx").manifest.recipe.settings
        found[settings["rescale_channels"]] = entry.accuracy.sqnr_db
    assert found[True] > plain.sqnr_db - 1
    assert found[False] < plain.sqnr_db - LOST_DB

    judged = sensitivity(
        SensitivityOptions(model=wide, targets=("onnx",), calibration=built.images, samples=SAMPLES, seed=5)
    ).targets["onnx"]
    assert judged.sqnr_db is not None and abs(judged.sqnr_db - found[True]) < 1
