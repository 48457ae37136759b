"""What the other verbs answer about a real build, and that they refuse a bundle that was changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from levit_edge.errors import InputError
from levit_edge.pipeline.bench import bench
from levit_edge.pipeline.evaluate import evaluate
from levit_edge.pipeline.inspect import inspect
from levit_edge.pipeline.options import BenchOptions, EvaluateOptions, InspectOptions, PredictOptions
from levit_edge.pipeline.predict import predict
from levit_edge.report.answers import Inspection
from targets.registry import TARGETS
from tests.levit_edge.pipeline.conftest import CLASSES, PER_CLASS, Built

ALL_IMAGES = len(CLASSES) * PER_CLASS


@pytest.mark.parametrize("name", TARGETS)
def test_evaluate_compares_a_bundle_with_its_reference(name: str, built: Built) -> None:
    found = evaluate(EvaluateOptions(built.out / name, data=built.images))
    accuracy = found.accuracy
    assert (found.target, accuracy.n, accuracy.n_labelled) == (name, ALL_IMAGES, ALL_IMAGES)
    assert accuracy.executed is (name != "coreml")
    assert accuracy.sqnr_db is not None and accuracy.sqnr_db > 20
    assert {gate.name for gate in found.gates} == {"top1_drop_pp", "agreement_pct", "program_departures"}


def test_evaluate_takes_a_limit_and_needs_images(built: Built) -> None:
    assert evaluate(EvaluateOptions(built.out / "onnx", data=built.images, limit=5)).accuracy.n == 5
    with pytest.raises(InputError, match="is not the demo, so name the images to evaluate on with --data DATA"):
        evaluate(EvaluateOptions(built.out / "onnx"))


def test_bench_times_every_bundle_that_runs_here(built: Built) -> None:
    result = bench(BenchOptions(tuple(built.out / name for name in TARGETS), runs=3))
    assert result.device == "local" and [row.target for row in result.rows] == list(TARGETS)
    for row in result.rows:
        if row.target == "coreml":
            assert row.latency is None and "does not run on this machine" in row.note
        else:
            assert row.latency is not None and row.latency.runs == 3 and row.latency.speedup > 0


@pytest.mark.parametrize("name", TARGETS)
def test_inspect_says_what_the_report_says(name: str, built: Built) -> None:
    found, entry = inspect(InspectOptions(built.out / name)), built.report.targets[name]
    assert isinstance(found, Inspection) and entry.delegation is not None
    counts = (found.delegates, found.int8_ops, found.float_ops, found.fallback_ops)
    delegation = entry.delegation
    assert counts == (delegation.delegates, delegation.int8_ops, delegation.float_ops, delegation.fallback_ops)
    assert (found.model_file, found.size_bytes) == (entry.model_file, entry.size_bytes)
    assert sum(row.count for row in found.operators if row.precision == "int8") == found.int8_ops


@pytest.mark.parametrize("name", TARGETS)
def test_predict_gives_the_most_probable_labels(name: str, built: Built) -> None:
    images = (built.images / "cat" / "0.png", built.images / "owl" / "1.png")
    predictions = predict(PredictOptions(built.out / name, images)).images
    assert [prediction.image for prediction in predictions] == [str(image) for image in images]
    for prediction in predictions:
        percent = [score.probability_pct for score in prediction.top]
        assert sum(percent) == pytest.approx(100) and percent == sorted(percent, reverse=True)
        assert {score.label for score in prediction.top} == set(CLASSES)
    assert len(predict(PredictOptions(built.out / name, images, top=1)).images[0].top) == 1


def test_the_targets_agree_on_the_prediction(built: Built) -> None:
    image = (built.images / "dog" / "2.png",)
    predictions = [predict(PredictOptions(built.out / name, image)).images[0] for name in TARGETS]
    scores = [{score.label: score.probability_pct for score in prediction.top} for prediction in predictions]
    for other in scores[1:]:
        assert other == pytest.approx(scores[0], abs=10)


def test_predict_names_an_image_it_cannot_use(built: Built, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.png does not exist or is not a file"):
        predict(PredictOptions(built.out / "onnx", (tmp_path / "nowhere.png",)))
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"bad\.png"):
        predict(PredictOptions(built.out / "onnx", (tmp_path / "bad.png",)))


VERBS: dict[str, Callable[[Path, Built], object]] = {
    "evaluate": lambda bundle, built: evaluate(EvaluateOptions(bundle, data=built.images, limit=1)),
    "bench": lambda bundle, built: bench(BenchOptions((bundle,), runs=1)),
    "inspect": lambda bundle, built: inspect(InspectOptions(bundle)),
    "predict": lambda bundle, built: predict(PredictOptions(bundle, (built.images / "cat" / "0.png",))),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", TARGETS)
def test_a_changed_bundle_is_refused_with_the_name_of_the_file(
    verb: str, name: str, built: Built, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(built.out / name, tmp_path / name))
    model = bundle / TARGETS[name].model_file
    changed = next(path for path in sorted(model.rglob("*.bin")) or [model])
    data = bytearray(changed.read_bytes())
    data[len(data) // 2] ^= 1
    changed.write_bytes(data)
    relative = changed.relative_to(bundle).as_posix()
    with pytest.raises(InputError, match=f"is not the bundle that was built: changed: {relative}"):
        VERBS[verb](bundle, built)


@pytest.mark.parametrize("verb", VERBS)
def test_a_missing_or_an_added_file_is_named(verb: str, built: Built, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(built.out / "onnx", tmp_path / "onnx"))
    (bundle / "golden.npz").rename(bundle / "silver.npz")
    with pytest.raises(InputError, match=r"missing: golden\.npz; not in the manifest: silver\.npz"):
        VERBS[verb](bundle, built)


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_no_bundle_is_refused(verb: str, built: Built, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not a bundle: it has no manifest\.json"):
        VERBS[verb](tmp_path, built)
