"""A real build: what it writes and what it says, for every kind of model and of images."""

from __future__ import annotations

import json
import shutil
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch

from levit_edge.bundle.files import sha256_path
from levit_edge.bundle.golden import read_golden
from levit_edge.bundle.manifest import PROGRAM_NAME, open_bundle
from levit_edge.errors import InputError
from levit_edge.pipeline.build import build
from levit_edge.pipeline.describe import NUMERICS_ONLY
from levit_edge.pipeline.evaluate import evaluate
from levit_edge.pipeline.options import EvaluateOptions
from levit_edge.report.schema import Report, load_report
from targets.registry import TARGETS
from targets.runner import run_batch
from tests.levit_edge.families.levit.levits import DATA, hf_model
from tests.levit_edge.pipeline.conftest import CLASSES, PER_CLASS, SAMPLES, Built, draw
from tests.places import ROOT
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
        assert files == {target.model_file, target.reference_file, PROGRAM_NAME, "golden.npz", "manifest.json"}


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
        assert set(entry["delegation"]) == {"delegates", "int8_ops", "float_ops", "fallback_ops", "operators"}
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


def test_the_report_names_the_evaluated_images_and_every_answer(built: Built) -> None:
    evaluation = built.report.evaluation
    assert evaluation is not None
    assert (evaluation.source, evaluation.n) == (f"{built.images.name} (not sampled)", LEFT)
    found = built.report.targets["onnx"].accuracy
    assert found is not None and found.outcomes is not None
    options = EvaluateOptions(built.out / "onnx", data=built.images)
    everything = evaluate(options)
    assert everything.images is not None and everything.images.n == len(CLASSES) * PER_CLASS
    assert everything.images == evaluate(options).images and everything.images.sha256 != evaluation.sha256


def test_operators_are_listed_by_name(built: Built) -> None:
    kernels = {"executorch": "XNNFullyConnected int8 delegate", "onnx": "QLinearConv int8 runtime"}
    for name, entry in built.report.targets.items():
        delegation = entry.delegation
        assert delegation is not None and list(delegation.operators) == sorted(delegation.operators)
        assert name not in kernels or delegation.operators[kernels[name]] > 1
        for precision, count in (("int8", delegation.int8_ops), ("float", delegation.float_ops)):
            listed = [number for key, number in delegation.operators.items() if key.split()[1] == precision]
            assert sum(listed) == count


def test_versions_of_what_executed_are_in_the_report(built: Built) -> None:
    for name, entry in built.report.targets.items():
        for package in TARGETS[name].runs_with:
            assert entry.tool_versions[package] == metadata.version(package)


def test_nothing_tells_where_it_was_built(built: Built) -> None:
    private = [str(folder).encode() for folder in (built.out.parent, ROOT)] + [b"site-packages"]
    for path in built.out.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not [folder for folder in private if folder in data], path
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
    assert manifest.tool_versions["torch"] == metadata.version("torch")
    open_bundle(built.out / name).verify()


@pytest.mark.parametrize("name", TARGETS)
def test_the_golden_values_can_be_reproduced(name: str, built: Built) -> None:
    bundle = open_bundle(built.out / name)
    golden = read_golden(bundle.path)
    assert len(golden.names) == 4 and golden.pixels.shape == (4, 64, 64, 3)
    runner = TARGETS[name].backend.load(bundle.model_path, 1)
    assert np.array_equal(run_batch(runner, golden.inputs), golden.logits)
    assert golden.runtime == runner.runtime
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    inputs = ((golden.pixels / 255 - mean) / std).transpose(0, 3, 1, 2)
    assert np.abs(inputs - golden.inputs).max() <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_the_same_inputs_give_the_same_files(name: str, built: Built, tmp_path: Path) -> None:
    build(built.options(tmp_path, targets=(name,), recipe="int8", calibration=built.images, seed=5))
    files = sorted(path.name for path in (tmp_path / name).iterdir())
    assert len(files) >= 4
    for file in files:
        assert sha256_path(tmp_path / name / file) == sha256_path(built.out / name / file), file


@pytest.mark.slow
def test_another_seed_gives_another_calibration(built: Built, tmp_path: Path) -> None:
    report = build(built.options(tmp_path, recipe="int8", calibration=built.images, seed=6))
    assert report.calibration is not None and built.report.calibration is not None
    assert report.calibration.sha256 != built.report.calibration.sha256
    assert sha256_path(tmp_path / "onnx" / "model.onnx") != sha256_path(built.out / "onnx" / "model.onnx")


def test_a_float_build_of_a_fused_module_is_its_own_reference(built: Built, tmp_path: Path) -> None:
    other = draw(tmp_path / "other", seed=9)
    options = built.options(tmp_path / "dist", model=micro().model, calibration=built.images, eval_data=other)
    report = build(options)
    entry = report.targets["onnx"]
    assert (entry.recipe, entry.size_ratio) == ("fp32", 1.0)
    assert entry.accuracy is not None and entry.accuracy.agreement_pct == 100
    assert entry.delegation is not None and entry.delegation.int8_ops == 0
    assert entry.accuracy.n == len(CLASSES) * PER_CLASS  # a data set for evaluation is used whole
    assert open_bundle(tmp_path / "dist" / "onnx").manifest.calibration is None
    _check_micro(report, tmp_path / "dist")


def test_a_transformers_model_is_built_and_a_limit_caps_what_is_evaluated(built: Built, tmp_path: Path) -> None:
    model = hf_model(micro_config(), heads=2)
    report = build(built.options(tmp_path, model=model, calibration=built.images, limit=4))
    accuracy = report.targets["onnx"].accuracy
    assert accuracy is not None and accuracy.n == 4
    _check_micro(report, tmp_path)


def _check_micro(report: Report, out: Path) -> None:
    """The micro LeViT was built: the golden logits are those that its fused model gives."""
    assert (report.model.num_labels, report.model.image_size) == (3, 64)
    golden = read_golden(out / "onnx")
    with torch.no_grad():
        expected = micro().model(torch.from_numpy(golden.inputs)).numpy()
    assert np.abs(expected - golden.logits).max() <= 1e-4


def test_without_images_only_the_numerics_are_verified(built: Built, tmp_path: Path) -> None:
    report = build(built.options(tmp_path, targets=("coreml",), recipe="w8a16"))
    assert report.warnings == (NUMERICS_ONLY,) and report.calibration is None and report.evaluation is None
    entry = report.targets["coreml"]
    assert entry.accuracy is None and entry.latency is None
    assert any("operator by operator with float16 rounding (mil-reference)" in line for line in entry.warnings)
    assert NUMERICS_ONLY in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert read_golden(tmp_path / "coreml").names[0] == "noise-0"


def test_a_checkpoint_of_the_authors_and_unlabelled_images_give_agreement_but_no_top1(
    built: Built, tmp_path: Path
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in built.images.rglob("*.png"):
        shutil.copy(path, flat / f"{path.parent.name}-{path.name}")
    report = build(built.options(tmp_path / "dist", model=str(DATA / "levit_tiny_fair.pth"), calibration=flat))
    assert (report.model.num_labels, report.model.source) == (11, "levit_tiny_fair.pth")
    accuracy = report.targets["onnx"].accuracy
    assert accuracy is not None and (accuracy.n, accuracy.n_labelled, accuracy.top1_pct) == (LEFT, 0, None)
    gates = {gate.name: gate for gate in report.targets["onnx"].gates}
    assert gates["top1_drop_pp"].outcome == "undecided" and "labelled images" in gates["top1_drop_pp"].note
    agreement = gates["agreement_pct"]  # nine equal answers of nine show little
    assert (agreement.value, agreement.outcome) == (100, "undecided") and agreement.images is not None
    assert report.verdict == "undecided" and not report.passed


@pytest.mark.slow
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
    assert tuple(sorted(report.calibration.skipped_images)) == ("cat/0.png", "dog/0.png", "owl/0.png")
    assert report.calibration.samples == len(CLASSES) * (PER_CLASS - 1)


def test_only_unreadable_images_are_one_line(built: Built, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"no image")
    options = built.options(
        tmp_path / "dist", recipe="int8", calibration=tmp_path / "images", samples=1, skip_bad_images=True
    )
    with pytest.raises(InputError, match=r"/images: none of the 1 images could be read; image a\.png: not an image"):
        build(options)
