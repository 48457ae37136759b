"""A real build: what it writes, what it says, and that a failed one leaves everything as it was."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import ExportedProgram

from levit_edge.bundle import open_bundle, read_golden
from levit_edge.errors import InputError, LevitEdgeError
from levit_edge.files import sha256_path, sha256_tree, size_bytes
from levit_edge.pipeline import build
from levit_edge.pipeline.build import NUMERICS_ONLY
from levit_edge.pipeline.images import NUMERICS
from levit_edge.pipeline.judge import run_each
from levit_edge.report import load_report
from levit_edge.staging import lock_directory
from targets.base import Runner
from targets.registry import TARGETS
from tests.levit_edge.levits import DATA, hf_model
from tests.pipeline.conftest import CLASSES, PER_CLASS, SAMPLES, Built, draw
from tests.programs import micro, micro_config

LEFT = len(CLASSES) * PER_CLASS - SAMPLES


def test_a_build_writes_a_report_and_a_bundle_for_each_target(built: Built) -> None:
    assert sorted(path.name for path in built.out.iterdir()) == [
        "coreml",
        "executorch",
        "onnx",
        "report.json",
        "report.md",
    ]
    for name, target in TARGETS.items():
        files = {path.name for path in (built.out / name).iterdir()}
        simulations = {"model.pt2", "model.fp32.pt2"} if name == "coreml" else set()
        named = {target.model_file, target.reference_file, "golden.npz", "manifest.json"}
        assert files == named | simulations


def test_the_report_on_disk_is_the_one_returned(built: Built) -> None:
    assert load_report(built.out / "report.json") == built.report
    text = (built.out / "report.md").read_text(encoding="utf-8")
    assert all(name in text for name in TARGETS)


def test_the_report_has_the_keys_of_the_contract(built: Built) -> None:
    report = json.loads((built.out / "report.json").read_text(encoding="utf-8"))
    assert {"schema_version", "host", "model", "calibration", "targets"} <= report.keys()
    assert list(report["targets"]) == sorted(TARGETS)
    for name, entry in report["targets"].items():
        assert {"size_bytes", "size_ratio", "accuracy", "latency", "delegation", "gates"} <= entry.keys()
        accuracy = {
            "runtime",
            "executed",
            "n",
            "top1_fp32_pct",
            "top1_pct",
            "top1_drop_pp",
            "top5_pct",
            "agreement_pct",
        }
        assert accuracy | {"sqnr_db"} <= entry["accuracy"].keys()
        assert set(entry["delegation"]) == {"delegates", "int8_ops", "float_ops", "fallback_ops"}
        assert all({"name", "value", "limit", "passed"} <= gate.keys() for gate in entry["gates"])
        if entry["accuracy"]["executed"]:
            latency = {"runtime", "threads", "fp32_ms", "int8_ms", "speedup"}
            assert latency <= entry["latency"].keys()
            assert all(set(entry["latency"][key]) == {"median", "p90"} for key in ("fp32_ms", "int8_ms"))
        else:
            assert name == "coreml" and entry["latency"] is None


def test_figures_say_what_produced_them(built: Built) -> None:
    entries = built.report.targets
    for name, runtime in (("executorch", "executorch-xnnpack"), ("onnx", "onnxruntime-cpu")):
        accuracy, latency = entries[name].accuracy, entries[name].latency
        assert accuracy is not None and latency is not None
        assert (accuracy.runtime, accuracy.executed, latency.runtime) == (runtime, True, runtime)
        assert (latency.runs, latency.threads) == (3, 1)
    assert entries["executorch"].delegation is not None and entries["executorch"].delegation.delegates == 1


def test_accuracy_is_measured_on_the_images_that_did_not_calibrate(built: Built) -> None:
    assert built.report.calibration is not None
    assert (built.report.calibration.samples, built.report.calibration.seed) == (SAMPLES, 5)
    assert built.report.calibration.source == built.images.name
    for entry in built.report.targets.values():
        accuracy = entry.accuracy
        assert accuracy is not None and (accuracy.n, accuracy.n_labelled) == (LEFT, LEFT)
        assert accuracy.sqnr_db is not None and accuracy.sqnr_db > 20
    assert not built.report.warnings


def test_nothing_tells_where_it_was_built(built: Built) -> None:
    root = str(built.out.parent)
    for path in built.out.rglob("*"):
        if path.is_file():
            assert root.encode() not in path.read_bytes(), path
    assert (built.report.model.variant, built.report.model.source) == ("custom", built.model.name)


@pytest.mark.parametrize("name", TARGETS)
def test_a_manifest_says_how_to_use_the_model(name: str, built: Built) -> None:
    manifest = open_bundle(built.out / name).manifest
    assert (manifest.target, manifest.labels) == (name, CLASSES)
    (image,), (logits,) = manifest.inputs, manifest.outputs
    assert (image.name, image.dtype, image.shape, image.layout) == ("image", "float32", (1, 3, 64, 64), "NCHW")
    assert image.range is not None and image.range[0] < -1 < 1 < image.range[1]
    assert (logits.name, logits.shape, logits.layout) == ("logits", (1, 3), "NC")
    assert manifest.recipe.name == "int8" and manifest.recipe.settings["weights"] == "int8"
    calibration = built.report.calibration
    assert manifest.calibration is not None and calibration is not None
    assert manifest.calibration.sha256 == calibration.sha256
    assert manifest.model.sha256 == built.report.model.sha256
    assert manifest.tool_versions["torch"] == torch.__version__
    open_bundle(built.out / name).verify()


@pytest.mark.parametrize("name", TARGETS)
def test_the_golden_values_can_be_reproduced(name: str, built: Built) -> None:
    bundle = open_bundle(built.out / name)
    golden = read_golden(bundle.path)
    assert len(golden.names) == 4 and golden.pixels.shape == (4, 64, 64, 3)
    runner = TARGETS[name].load(bundle.model_path, 1)
    assert np.array_equal(run_each(runner, golden.inputs), golden.logits)
    assert golden.runtime == runner.runtime
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    inputs = ((golden.pixels / 255 - mean) / std).transpose(0, 3, 1, 2)
    assert np.abs(inputs - golden.inputs).max() <= 1e-5


def test_the_same_inputs_give_the_same_files(built: Built, tmp_path: Path) -> None:
    options = built.options(
        tmp_path, targets=("onnx", "coreml"), recipe="int8", calibration=built.images, seed=5, threads=1
    )
    build(options)
    for name in options.targets:
        for file in sorted(path.name for path in (tmp_path / name).iterdir()):
            assert sha256_path(tmp_path / name / file) == sha256_path(built.out / name / file), file


def test_another_seed_gives_another_calibration(built: Built, tmp_path: Path) -> None:
    report = build(built.options(tmp_path, recipe="int8", calibration=built.images, seed=6))
    assert report.calibration is not None and built.report.calibration is not None
    assert report.calibration.sha256 != built.report.calibration.sha256
    assert sha256_path(tmp_path / "onnx" / "model.onnx") != sha256_path(built.out / "onnx" / "model.onnx")


def test_a_float_build_is_its_own_reference(built: Built, tmp_path: Path) -> None:
    report = build(built.options(tmp_path, calibration=built.images))
    entry = report.targets["onnx"]
    assert (entry.recipe, entry.size_ratio) == ("fp32", 1.0)
    assert entry.accuracy is not None and entry.accuracy.agreement_pct == 100
    assert entry.delegation is not None and entry.delegation.int8_ops == 0
    assert open_bundle(tmp_path / "onnx").manifest.calibration is None


def test_without_images_only_the_numerics_are_verified(built: Built, tmp_path: Path) -> None:
    report = build(built.options(tmp_path, targets=("coreml",), recipe="w8a16"))
    assert report.warnings == (NUMERICS_ONLY,) and report.calibration is None
    entry = report.targets["coreml"]
    assert entry.accuracy is None and entry.latency is None
    assert any("float16 rounding is not simulated" in warning for warning in entry.warnings)
    assert NUMERICS_ONLY in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert read_golden(tmp_path / "coreml").names[0] == "noise-0"


def test_unlabelled_images_give_agreement_but_no_top1(built: Built, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in built.images.rglob("*.png"):
        shutil.copy(path, flat / f"{path.parent.name}-{path.name}")
    report = build(built.options(tmp_path / "dist", calibration=flat))
    accuracy = report.targets["onnx"].accuracy
    assert accuracy is not None and (accuracy.n, accuracy.n_labelled, accuracy.top1_pct) == (LEFT, 0, None)
    gates = {gate.name: gate.passed for gate in report.targets["onnx"].gates}
    assert gates["top1_drop_pp"] is None and gates["agreement_pct"] is True


def test_a_data_set_for_evaluation_is_used_whole(built: Built, tmp_path: Path) -> None:
    other = draw(tmp_path / "other", seed=9)
    report = build(built.options(tmp_path / "dist", calibration=built.images, eval_data=other))
    accuracy = report.targets["onnx"].accuracy
    assert accuracy is not None and accuracy.n == len(CLASSES) * PER_CLASS
    limited = build(built.options(tmp_path / "dist", calibration=built.images, eval_data=other, limit=4))
    assert limited.targets["onnx"].accuracy is not None and limited.targets["onnx"].accuracy.n == 4


def test_bad_images_are_left_out_and_listed_when_asked(built: Built, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(built.images, images)
    for name in CLASSES:
        (images / name / "0.png").write_bytes(b"no image")
    options = built.options(
        tmp_path / "dist", recipe="int8", calibration=images, samples=len(CLASSES) * PER_CLASS, skip_bad_images=True
    )
    report = build(options)
    assert report.calibration is not None
    assert report.calibration.skipped_images == ("cat/0.png", "dog/0.png", "owl/0.png")
    assert report.calibration.samples == len(CLASSES) * (PER_CLASS - 1)


def test_only_unreadable_images_are_one_line(built: Built, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"no image")
    options = built.options(tmp_path / "dist", recipe="int8", calibration=tmp_path / "images", skip_bad_images=True)
    with pytest.raises(InputError, match=r"^images: no calibration image was given$"):
        build(options)


def _modules() -> dict[str, Callable[[], nn.Module]]:
    return {"a fused model": lambda: micro().model, "a transformers model": lambda: hf_model(micro_config(), heads=2)}


@pytest.mark.parametrize("kind", _modules())
def test_a_module_may_be_given_as_the_model(kind: str, built: Built, tmp_path: Path) -> None:
    report = build(built.options(tmp_path, model=_modules()[kind](), calibration=built.images))
    assert (report.model.num_labels, report.model.image_size) == (3, 64)
    golden = read_golden(tmp_path / "onnx")
    with torch.no_grad():
        expected = micro().model(torch.from_numpy(golden.inputs)).numpy()
    assert np.abs(expected - golden.logits).max() <= 1e-4


def test_a_saved_checkpoint_with_other_layouts_builds_too(built: Built, tmp_path: Path) -> None:
    report = build(built.options(tmp_path, model=str(DATA / "levit_tiny_fair.pth"), calibration=built.images))
    assert (report.model.num_labels, report.model.source) == (11, "levit_tiny_fair.pth")


def test_a_model_without_a_head_is_refused(built: Built, tmp_path: Path) -> None:
    backbone = hf_model(micro_config(), heads=0)
    with pytest.raises(InputError, match="backbone without a classification head; there is nothing to verify"):
        build(built.options(tmp_path / "dist", model=backbone))
    assert not (tmp_path / "dist").exists()


def test_int8_without_images_is_refused(built: Built, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="recipe int8 calibrates on images; name some with --calibration DATA"):
        build(built.options(tmp_path / "dist", recipe="int8"))
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"recipe": "w8a16"}, "recipe w8a16 is not for onnx; it is for: coreml"),
        ({"recipe": "int4"}, "unknown recipe 'int4'"),
        ({"model": "levit-128S"}, "random"),
        ({"model": "/nowhere/model"}, "/nowhere/model"),
        ({"calibration": Path("/nowhere/images")}, "/nowhere/images"),
        ({"thresholds": Path("/nowhere/limits.toml")}, "/nowhere/limits.toml"),
        ({"labels": Path("/nowhere/labels.txt")}, "/nowhere/labels.txt"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_and_creates_nothing(
    changes: dict[str, object], line: str, built: Built, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        build(built.options(tmp_path / "dist", **changes))
    assert line in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize("field", ["samples", "runs", "threads", "limit"])
def test_numbers_below_one_are_refused(field: str, built: Built, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{field} is 0; it must be at least 1"):
        built.options(tmp_path, **{field: 0})


@pytest.fixture
def previous(built: Built, tmp_path: Path) -> Path:
    """A folder with an earlier build; the test's own build must leave it as it is."""
    return Path(shutil.copytree(built.out, tmp_path / "dist"))


def lowering(monkeypatch: pytest.MonkeyPatch, failure: BaseException) -> None:
    """Let ONNX write half of a file and then fail."""

    def lower(program: ExportedProgram, path: Path, half: bool) -> None:
        path.write_bytes(b"half")
        raise failure

    monkeypatch.setitem(TARGETS, "onnx", replace(TARGETS["onnx"], lower=lower))


@pytest.mark.parametrize(
    ("failure", "kind", "line"),
    [
        (RuntimeError("the exporter broke"), RuntimeError, "the exporter broke"),
        (KeyboardInterrupt(), KeyboardInterrupt, ""),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), InputError, "dist: no space left on the disk"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS)), InputError, "dist: the file system is read-only"),
    ],
    ids=["an exception", "an interrupt", "a full disk", "a read-only disk"],
)
def test_a_failure_while_lowering_leaves_the_previous_build(
    failure: BaseException,
    kind: type[BaseException],
    line: str,
    built: Built,
    previous: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = sha256_tree(previous)
    lowering(monkeypatch, failure)
    with pytest.raises(kind) as caught:
        build(built.options(previous))
    assert line in str(caught.value)
    assert sha256_tree(previous) == before
    assert not [path for path in previous.iterdir() if path.name.startswith(".")]


def test_a_damaged_image_stops_the_build_with_its_name(built: Built, previous: Path, tmp_path: Path) -> None:
    images = Path(shutil.copytree(built.images, tmp_path / "images"))
    whole = (images / "dog" / "3.png").read_bytes()
    (images / "dog" / "3.png").write_bytes(whole[: len(whole) // 2])
    before = sha256_tree(previous)
    with pytest.raises(InputError, match=r"dog/3\.png") as caught:
        build(built.options(previous, recipe="int8", calibration=images, samples=18))
    assert "\n" not in str(caught.value)
    assert sha256_tree(previous) == before


def test_a_model_file_that_computes_something_else_is_not_published(
    built: Built, previous: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, load = sha256_tree(previous), TARGETS["onnx"].load

    class Wrong:
        runtime, executed = "wrong", True

        def __init__(self, right: Runner) -> None:
            self._right = right

        def __call__(
            self, image: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
        ) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
            return self._right(image) + np.float32(0.5)

    monkeypatch.setitem(
        TARGETS, "onnx", replace(TARGETS["onnx"], load=lambda path, threads: Wrong(load(path, threads)))
    )
    for recipe in ("fp32", "int8"):
        with pytest.raises(LevitEdgeError, match=r"onnx .* differs from the program it was made from \(SQNR"):
            build(built.options(previous, recipe=recipe, calibration=built.images))
        assert sha256_tree(previous) == before
    assert NUMERICS >= 4


def test_a_folder_that_another_build_holds_is_refused(built: Built, previous: Path) -> None:
    with lock_directory(previous), pytest.raises(InputError, match="another build .* is writing here; wait for it"):
        build(built.options(previous))
    build(built.options(previous))
    assert load_report(previous / "report.json").targets.keys() == {"onnx"}


def test_a_folder_of_the_user_is_never_replaced(built: Built, tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"onnx is a folder without manifest\.json, so not a bundle"):
        build(built.options(tmp_path))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["thesis.txt"]


def test_a_new_build_replaces_only_its_own_targets(built: Built, previous: Path) -> None:
    kept = sha256_tree(previous / "coreml")
    build(built.options(previous))
    assert sha256_tree(previous / "coreml") == kept
    assert open_bundle(previous / "onnx").manifest.recipe.name == "fp32"
    assert size_bytes(previous / "onnx" / "model.onnx") == size_bytes(previous / "onnx" / "model.fp32.onnx")
