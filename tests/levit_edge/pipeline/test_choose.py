"""What a build keeps float when more accuracy is asked for, and that another build can be given the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from levit_edge.bundle.files import sha256_path
from levit_edge.bundle.manifest import open_bundle
from levit_edge.errors import InputError
from levit_edge.pipeline.build import build
from levit_edge.pipeline.choose import SEARCH_IMAGES
from levit_edge.pipeline.gate import gate
from levit_edge.pipeline.options import MAX_SQNR_DB, BuildOptions, GateOptions
from levit_edge.report.schema import Report, TargetReport
from tests.levit_edge.pipeline.conftest import CLASSES, PER_CLASS, SAMPLES, Built

GATES = 'schema_version = 1\n[limits]\nmax_top1_drop_pp = "off"\nmin_agreement_pct = 1\nmin_speedup = "off"\n'
MORE_DB = 3.0


def _built(built: Built, out: Path, **changes: object) -> Report:
    gates = out.parent / "gates.toml"  # so few images decide no more than this
    gates.write_text(GATES)
    plain = {"recipe": "int8", "calibration": built.images, "gates": gates, "seed": 5}
    return build(built.options(out, **(plain | changes)))


def _outcome(entry: TargetReport) -> Mapping[str, str]:
    return {gate.name: gate.outcome for gate in entry.gates}


def test_more_accuracy_keeps_more_float_and_the_manifest_gives_the_same_file_again(
    built: Built, tmp_path: Path
) -> None:
    plain = built.report.targets["onnx"].accuracy
    assert plain is not None and plain.sqnr_db is not None
    goal_db = plain.sqnr_db + MORE_DB
    report = _built(built, tmp_path / "dist", min_sqnr=goal_db)
    entry = report.targets["onnx"]
    found = entry.mixed_precision
    assert found is not None and found.reached and found.goal_db == goal_db
    assert found.images == found.confirmed_images == len(CLASSES) * PER_CLASS - SAMPLES < SEARCH_IMAGES
    assert found.confirmed.sqnr_db is not None and found.confirmed.sqnr_db >= goal_db
    names = [kept.tensor for kept in found.kept]
    assert names and entry.recipe_settings["keep_float"] == ["image", "first", "pooled", *names]
    assert not set(names) & set(entry.ranges)
    assert entry.accuracy is not None and entry.accuracy.sqnr_db is not None
    assert entry.accuracy.sqnr_db > plain.sqnr_db
    assert _outcome(entry)["sqnr_db"] == ("passed" if entry.accuracy.sqnr_db >= goal_db else "failed")

    bundle = tmp_path / "dist" / "onnx"
    assert open_bundle(bundle).manifest.recipe.settings == entry.recipe_settings
    again = _built(built, tmp_path / "again", recipe=str(bundle / "manifest.json"))
    assert again.targets["onnx"].recipe_settings == entry.recipe_settings
    assert again.targets["onnx"].mixed_precision is None
    assert sha256_path(tmp_path / "again" / "onnx" / "model.onnx") == sha256_path(bundle / "model.onnx")


def test_a_ratio_that_nothing_reaches_fails_its_gate(built: Built, tmp_path: Path) -> None:
    report = _built(built, tmp_path / "dist", min_sqnr=MAX_SQNR_DB)
    entry = report.targets["onnx"]
    assert entry.mixed_precision is not None and not entry.mixed_precision.reached
    assert (_outcome(entry)["sqnr_db"], report.verdict) == ("failed", "failed")
    again = gate(GateOptions(report=tmp_path / "dist" / "report.json", gates=tmp_path / "gates.toml"))
    assert [found.outcome for found in again.targets["onnx"] if found.name == "sqnr_db"] == ["failed"]


def test_a_drop_that_the_recipe_keeps_is_confirmed_and_gated(built: Built, tmp_path: Path) -> None:
    report = _built(built, tmp_path / "dist", max_drop=100)
    entry = report.targets["onnx"]
    found = entry.mixed_precision
    assert found is not None and (found.goal_db, found.goal_drop_pp, found.kept) == (None, 100, ())
    assert found.reached and found.confirmed.top1_drop_pp is not None
    limits = {gate.name: gate.limit for gate in entry.gates}
    assert limits["top1_drop_pp"] == 100  # the file turns this gate off
    again = gate(GateOptions(report=tmp_path / "dist" / "report.json", gates=tmp_path / "gates.toml"))
    assert [found.limit for found in again.targets["onnx"] if found.name == "top1_drop_pp"] == [100]


def test_a_drop_needs_labels(built: Built, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for image in sorted(built.images.rglob("*.png")):
        shutil.copy(image, flat / f"{image.parent.name}-{image.name}")
    with pytest.raises(InputError, match="no image has a class of the model; --max-drop needs some"):
        _built(built, tmp_path / "dist", calibration=flat, max_drop=1)
    assert not (tmp_path / "dist").exists()


def test_a_recipe_without_ranges_has_nothing_to_choose(built: Built, tmp_path: Path) -> None:
    report = _built(built, tmp_path / "dist", recipe="fp32", min_sqnr=60)
    entry = report.targets["onnx"]
    assert entry.mixed_precision is None and _outcome(entry)["sqnr_db"] == "passed"


def test_no_image_to_choose_on_is_refused(built: Built, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--min-sqnr needs images to evaluate on, and none is left"):
        _built(built, tmp_path / "dist", samples=len(CLASSES) * PER_CLASS, min_sqnr=30)
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize("wrong", [0.0, -3.0, MAX_SQNR_DB + 1, float("nan")])
def test_a_goal_out_of_bounds_is_one_line(wrong: float) -> None:
    with pytest.raises(InputError, match=r"min_sqnr is .*; it must be above 0 and at most 100 dB"):
        BuildOptions(min_sqnr=wrong)


@pytest.mark.parametrize("wrong", [-0.1, 100.1, float("nan")])
def test_a_drop_out_of_bounds_is_one_line(wrong: float) -> None:
    with pytest.raises(InputError, match=r"max_drop is .*; it must be from 0 to 100 percentage points"):
        BuildOptions(max_drop=wrong)


@pytest.mark.parametrize("content", [{}, [], {"recipe": {"settings": {"weights": "int8"}}}, {"recipe": "int8"}])
def test_what_is_no_manifest_is_one_line(content: Any, built: Built, tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="it is no manifest of a bundle"):
        _built(built, tmp_path / "dist", recipe=str(file))
