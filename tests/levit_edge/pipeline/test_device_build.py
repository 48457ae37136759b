"""A build with another device, and the table of all that compute the model."""

from __future__ import annotations

import json
import platform
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from levit_edge.bundle.golden import read_golden
from levit_edge.bundle.manifest import PROGRAM_NAME, open_bundle
from levit_edge.errors import InputError, MissingComponentError
from levit_edge.metrics.agreement import Agreement, AgreementMeter, Participant
from levit_edge.metrics.measurement_defaults import COUNTED_RUNS
from levit_edge.pipeline.build import build
from levit_edge.pipeline.departure_warnings import departures
from levit_edge.pipeline.verify import verify_bundle
from levit_edge.report.schema import Report, load_report
from targets.program.run import ProgramRunner
from targets.registry import TARGETS
from targets.runner import run_batch
from tests.levit_edge.pipeline.conftest import CLASSES, PER_CLASS, SAMPLES, Built
from tests.levit_edge.pipeline.devices import NAME, ToyDevice, plug_in, turned

LEFT = len(CLASSES) * PER_CLASS - SAMPLES
ARM_GATE = "device_agreement_pct"


def _names(report: Report) -> list[str]:
    assert report.agreement is not None
    return [participant.name for participant in report.agreement.participants]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ToyDevice:
    device = ToyDevice()
    plug_in(monkeypatch, device)
    return device


@pytest.mark.parametrize("name", TARGETS)
def test_the_program_in_a_bundle_is_what_its_file_was_lowered_from(name: str, built: Built) -> None:
    import torchao.quantization.pt2e  # noqa: F401  # registers the quantize and dequantize operators

    bundle = open_bundle(built.out / name)
    assert PROGRAM_NAME in bundle.manifest.files
    golden = read_golden(bundle.path)
    answers = ProgramRunner(torch.export.load(bundle.path / PROGRAM_NAME)).batch(golden.inputs)
    reference = run_batch(TARGETS[name].backend.load(bundle.reference_path, 1), golden.inputs)
    assert not np.array_equal(answers, reference)
    found = verify_bundle(bundle, TARGETS[name], golden.inputs)
    assert found is not None and found.departures == () and found.layers > 0


def test_a_bundle_may_travel_without_its_program(built: Built, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(built.out / "onnx", tmp_path / "onnx"))
    (bundle / PROGRAM_NAME).unlink()
    open_bundle(bundle).verify()


def test_everybody_answers_the_same_images(built: Built) -> None:
    table = built.report.agreement
    assert table is not None and (table.n, table.images) == (LEFT, f"{built.images.name} (not sampled)")
    machine = platform.machine()
    assert _names(built.report) == [
        "torch float",
        "executorch program",
        f"executorch {machine}",
        "coreml program",
        "coreml reference",
        "onnx program",
        f"onnx {machine}",
    ]
    assert [p.executed for p in table.participants] == [False, False, True, False, False, False, True]
    assert {p.name: p.program for p in table.participants}["coreml reference"] == "coreml program"
    found = {p.name: (pct, db) for p, pct, db in table.against_program()}
    for name, (agreed_pct, db) in found.items():
        assert agreed_pct >= 100 - 100 / LEFT and (db is None or db > 15), name


def test_the_float_row_is_the_accuracy_of_the_report(built: Built) -> None:
    """All images were compared, so that two ways of measuring must give the same figures."""
    table = built.report.agreement
    assert table is not None
    for column, participant in enumerate(table.participants):
        if participant.program is not None and participant.target is not None:
            accuracy = built.report.targets[participant.target].accuracy
            assert accuracy is not None
            assert table.agreement_pct[0][column] == pytest.approx(accuracy.agreement_pct)
            assert table.sqnr_db[0][column] == pytest.approx(accuracy.sqnr_db, abs=0.5)


def test_a_device_adds_accuracy_instructions_and_a_row(built: Built, tmp_path: Path, toy: ToyDevice) -> None:
    targets = ("coreml", "onnx")  # the device does not run Core ML, which is built and left out there
    report = build(built.options(tmp_path, targets=targets, calibration=built.images, device=NAME))
    assert load_report(tmp_path / "report.json") == report
    assert _names(report)[-1] == "onnx arm64"
    assert not report.targets["coreml"].devices and {target for target, _, _ in toy.asked} == {"onnx"}
    entry = report.targets["onnx"]
    found = entry.devices[NAME]
    assert found.accuracy is not None and found.local is not None
    assert (found.accuracy.n, found.accuracy.n_labelled, found.accuracy.executed) == (LEFT, LEFT, True)
    assert found.accuracy.runtime == f"onnx-runtime 1.2 on {NAME}"
    assert entry.accuracy is not None and found.local.runtime == entry.accuracy.runtime
    assert (found.local.agreement_pct, found.local.sqnr_db, found.local.n) == (100, None, LEFT)
    (gate,) = [gate for gate in entry.gates if gate.name == ARM_GATE]  # nine equal answers of nine show little
    assert (gate.value, gate.outcome, gate.device) == (100, "undecided", NAME)
    counted = found.instructions
    assert counted is not None and found.latency is None
    assert (counted.runs, counted.fp32_instructions, counted.instructions) == (COUNTED_RUNS, 2000, 1000)
    assert (counted.ratio, counted.spread_pct) == (2.0, pytest.approx(1.0))
    assert [(k.function, k.instructions) for k in counted.kernels] == [
        ("gemm", 700),
        ("memcpy", 100),
        ("other", 200),
    ]
    assert toy.asked.count(("onnx", "model.onnx", LEFT)) == 1
    data = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert data["targets"]["onnx"]["devices"][NAME]["instructions"]["instructions"] == 1000


@pytest.mark.usefixtures("toy")
def test_core_ml_alone_is_refused_by_a_device_that_does_not_run_it(built: Built, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not run coreml bundles; it runs: executorch, onnx"):
        build(built.options(tmp_path / "one", targets=("coreml",), device=NAME))
    assert not (tmp_path / "one").exists()


def test_a_device_that_departs_is_named_and_fails_its_gate(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug_in(monkeypatch, ToyDevice(distort=turned(1.0)))
    report = build(built.options(tmp_path, calibration=built.images, device=NAME))
    (warning,) = report.warnings
    assert warning.startswith("onnx arm64 departs from its own quantized program: ")
    assert "--diverge" not in warning  # it would show this host's runtime, which is right
    (here,) = [entry for entry in report.agreement.against_program() if entry[0].runtime == "onnxruntime-cpu"]
    figures = f"{here[1]:.2f} % agreement" + ("" if here[2] is None else f" and {here[2]:.1f} dB")
    assert warning.endswith(f"compare {here[0].name}, the same file on this host: {figures} with that program")
    failed = [gate for gate in report.targets["onnx"].gates if gate.passed is False]
    assert [gate.name for gate in failed] == [ARM_GATE] and NAME in failed[0].note and not report.passed


def _table(n: int, wrong: int) -> Agreement:
    """A program, and a file of which ``wrong`` of ``n`` answers are others."""
    floats = np.tile(np.array([[0.0, 1.0]]), (n, 1))
    answers = floats.copy()
    answers[:wrong] = answers[:wrong, ::-1]
    program = Participant(name="onnx program", target="onnx", runtime="torch", executed=False)
    file = Participant(name="onnx here", target="onnx", runtime="ort", executed=True, program=program.name)
    meter = AgreementMeter((program, file))
    meter.update([floats, answers])
    return meter.result("pets")


@pytest.mark.parametrize(
    ("n", "wrong", "warned"),
    [
        (200, 5, False),  # 5 or more of 200: 5.2 % at a rate of one in a hundred
        (200, 6, True),  # 6 or more: 1.6 %
        (9, 1, False),  # 8.6 %
        (9, 2, True),  # 0.3 %
        (1000, 15, False),  # 8.2 %
        (1000, 16, True),  # 4.8 %
    ],
)
def test_a_participant_departs_when_chance_does_not_explain_it(n: int, wrong: int, warned: bool) -> None:
    assert bool(list(departures(_table(n, wrong), {}))) is warned


def test_random_weights_warn_of_nothing() -> None:
    assert list(departures(_table(200, 100), {}))
    assert not list(departures(_table(200, 100), {}, random_weights=True))


def test_a_program_computes_what_its_module_does(built: Built) -> None:
    for name in TARGETS:
        inputs = read_golden(built.out / name).inputs
        program = torch.export.load(built.out / name / PROGRAM_NAME)
        with torch.no_grad():
            expected = torch.cat([program.module()(image) for image in torch.from_numpy(inputs).split(1)])
        assert np.array_equal(ProgramRunner(program).batch(inputs), expected.numpy())


def test_without_evaluation_images_the_numerics_are_compared(built: Built, tmp_path: Path, toy: ToyDevice) -> None:
    report = build(built.options(tmp_path, device=NAME))
    assert report.agreement is not None and report.agreement.images == "noise"
    assert _names(report)[-1] == "onnx arm64"
    entry = report.targets["onnx"]
    assert entry.accuracy is None
    found = entry.devices[NAME]
    assert found.accuracy is None and found.local is None and found.instructions is not None


def test_a_device_that_is_not_there_stops_the_build_before_it_starts(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug_in(monkeypatch, ToyDevice(), MissingComponentError(f"device {NAME}", "levit-edge device add"))
    with pytest.raises(MissingComponentError, match="levit-edge device add"):
        build(built.options(tmp_path / "dist", model="/nowhere/at/all", device=NAME))
    assert not (tmp_path / "dist").exists()


def test_a_device_that_cannot_count_stops_the_build_before_it_starts(
    built: Built, tmp_path: Path, toy: ToyDevice
) -> None:
    toy.missing = MissingComponentError("a C compiler", "sudo apt-get install gcc")
    with pytest.raises(MissingComponentError, match="install gcc"):
        build(built.options(tmp_path / "dist", model="/nowhere/at/all", device=NAME))
    assert not (tmp_path / "dist").exists()
