"""What ``eval`` and ``bench`` answer about a device other than this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from levit_edge.errors import InputError
from levit_edge.metrics.measurement_defaults import COUNTED_RUNS
from levit_edge.pipeline.bench import bench
from levit_edge.pipeline.evaluate import evaluate
from levit_edge.pipeline.options import BenchOptions, EvaluateOptions
from tests.levit_edge.pipeline.conftest import Built
from tests.levit_edge.pipeline.devices import NAME, ToyDevice, plug_in, turned

ALL_IMAGES = 18


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ToyDevice:
    device = ToyDevice()
    plug_in(monkeypatch, device)
    return device


@pytest.mark.parametrize("name", ["executorch", "onnx"])
def test_evaluate_runs_the_bundle_on_the_device(name: str, built: Built, toy: ToyDevice) -> None:
    here = evaluate(EvaluateOptions(built.out / name, data=built.images))
    there = evaluate(EvaluateOptions(built.out / name, data=built.images, device=NAME))
    assert (here.device, here.local) == ("local", None)
    assert there.device == NAME and there.accuracy.runtime == f"{name}-runtime 1.2 on {NAME}"
    assert toy.asked == [(name, here_file(built, name), ALL_IMAGES)]
    figures = {"runtime", "sqnr_db", "float_margin"}
    assert there.accuracy.model_dump(exclude=figures) == here.accuracy.model_dump(exclude=figures)
    assert there.accuracy.sqnr_db == pytest.approx(here.accuracy.sqnr_db, abs=1e-6)
    assert there.local is not None and there.local.runtime == here.accuracy.runtime
    assert (there.local.n, there.local.agreement_pct, there.local.sqnr_db) == (ALL_IMAGES, 100, None)
    gates = {gate.name: gate for gate in there.gates}
    assert set(gates) - {gate.name for gate in here.gates} == {"device_agreement_pct"}
    assert (gates["device_agreement_pct"].value, gates["device_agreement_pct"].device) == (100, NAME)


def here_file(built: Built, name: str) -> str:
    return built.report.targets[name].model_file


def test_answers_that_differ_from_this_hosts_fail_the_gate(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, ToyDevice(distort=turned(0.5)))
    found = evaluate(EvaluateOptions(built.out / "onnx", data=built.images, device=NAME))
    assert found.local is not None and found.local.agreement_pct == 50
    assert {gate.name: gate.passed for gate in found.gates}["device_agreement_pct"] is False
    assert found.verdict == "failed"


def test_evaluate_asks_the_device_for_many_images_at_once(built: Built, toy: ToyDevice) -> None:
    toy.batch_images = 8
    found = evaluate(EvaluateOptions(built.out / "onnx", data=built.images, device=NAME))
    assert [count for _, _, count in toy.asked] == [8, 8, 2]
    assert found.accuracy.n == ALL_IMAGES and found.local is not None and found.local.n == ALL_IMAGES


def test_a_device_refuses_what_it_does_not_run(built: Built, toy: ToyDevice) -> None:
    line = f"{NAME} does not run coreml bundles; it runs: executorch, onnx"
    with pytest.raises(InputError, match=line):
        evaluate(EvaluateOptions(built.out / "coreml", data=built.images, limit=1, device=NAME))
    with pytest.raises(InputError, match=line):
        bench(BenchOptions((built.out / "coreml",), device=NAME))
    assert not toy.asked


@pytest.mark.parametrize(("runs", "counted"), [(None, COUNTED_RUNS), (3, 3)])
def test_bench_counts_instructions(runs: int | None, counted: int, built: Built, toy: ToyDevice) -> None:
    result = bench(BenchOptions((built.out / "onnx", built.out / "coreml"), device=NAME, runs=runs))
    onnx, coreml = result.rows
    assert result.device == NAME and onnx.latency is None and onnx.instructions is not None
    assert onnx.runtime == f"onnx-runtime 1.2 on {NAME}"
    assert (onnx.instructions.runs, onnx.instructions.ratio) == (counted, 2.0)
    assert (coreml.runtime, coreml.instructions) == ("", None)
    assert coreml.note == f"not counted: {NAME} does not run coreml bundles"
    assert toy.asked == [("onnx", "model.fp32.onnx", counted), ("onnx", "model.onnx", counted)]


def test_an_emulator_counts_as_many_inferences_as_it_has_room_for(built: Built, toy: ToyDevice) -> None:
    with pytest.raises(InputError, match="runs is 0; it must be at least 1"):
        BenchOptions((built.out / "onnx",), device=NAME, runs=0)
    with pytest.raises(InputError, match=f"runs is 1001; {NAME} counts 1 to 1000 inferences"):
        bench(BenchOptions((built.out / "onnx",), device=NAME, runs=1001))
    assert not toy.asked
    (row,) = bench(BenchOptions((built.out / "onnx",), device=NAME, runs=1000)).rows
    assert row.instructions is not None and row.instructions.runs == 1000


def test_an_emulator_counts_one_thread(built: Built, toy: ToyDevice) -> None:
    with pytest.raises(InputError, match=f"threads is 2; {NAME} counts the instructions of 1 thread"):
        bench(BenchOptions((built.out / "onnx",), device=NAME, threads=2))


def test_the_device_is_looked_for_before_the_bundle(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'pdp11'.*valid: local"):
        evaluate(EvaluateOptions(tmp_path, device="pdp11"))
    with pytest.raises(InputError, match=r"'pdp11'.*valid: local"):
        bench(BenchOptions((tmp_path,), device="pdp11"))
