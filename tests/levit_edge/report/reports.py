"""A small valid report to vary in the tests of reports and gates."""

from __future__ import annotations

from typing import Any

import numpy as np

from levit_edge.metrics.accuracy import Accuracy, AccuracyMeter
from levit_edge.metrics.agreement import Agreement, AgreementMeter, Participant
from levit_edge.metrics.closeness import Closeness
from levit_edge.metrics.instructions import Instructions
from levit_edge.metrics.outcomes import Outcomes
from levit_edge.metrics.program_match import ProgramMatch
from levit_edge.report.gate_result import GateResult
from levit_edge.report.schema import (
    Calibration,
    Delegation,
    DeviceFigures,
    EvaluationSet,
    Host,
    Latency,
    Milliseconds,
    Model,
    Report,
    TargetReport,
)

DEVICE = "qemu-arm64:cortex-a76"
ON_DEVICE = f"onnxruntime-cpu 1.31.1 on {DEVICE}"
KERNELS = (("libonnxruntime.so", "MlasGemmS8S8KernelSDot", "sdot", 40_000_000), ("libc.so.6", "memcpy", "ldp", 1_250))


def accuracy(**changes: Any) -> Accuracy:
    values: dict[str, Any] = {
        "runtime": "onnxruntime 1.31.1",
        "executed": True,
        "n": 1000,
        "n_labelled": 1000,
        "top1_fp32_pct": 81.3,
        "top1_pct": 81.0,
        "top1_drop_pp": 0.3,
        "top1_lost": 5,
        "top1_gained": 2,
        "top5_pct": 98.0,
        "agreement_pct": 99.0,
        "sqnr_db": 27.25,
    }
    return Accuracy(**(values | changes))


def few_images(n: int, lost: int, gained: int, agreed: int | None = None) -> Accuracy:
    """``n`` labelled images, some answers lost or gained; the others agree, unless ``agreed`` says otherwise."""
    drop = 100 * (lost - gained) / n
    agreement = 100 * (n - lost - gained if agreed is None else agreed) / n
    return accuracy(
        n=n,
        n_labelled=n,
        top1_pct=81.3 - drop,
        top1_drop_pp=drop,
        top1_lost=lost,
        top1_gained=gained,
        agreement_pct=agreement,
    )


def latency(**changes: Any) -> Latency:
    values: dict[str, Any] = {
        "runtime": "onnxruntime 1.31.1",
        "threads": 1,
        "runs": 60,
        "fp32_ms": Milliseconds(median=8.0, p90=8.5),
        "int8_ms": Milliseconds(median=4.0, p90=4.25),
        "speedup": 2.0,
        "speedup_low": 1.9,
        "speedup_high": 2.1,
    }
    return Latency(**(values | changes))


def instructions(device: str = DEVICE, fp32: int = 116_700_000, built: int = 61_200_000) -> Instructions:
    """Three counted inferences, the float model's 1 % apart."""
    counts = (fp32, fp32 + fp32 // 200, fp32 - fp32 // 200)
    return Instructions.of(device=device, runtime=ON_DEVICE, fp32=counts, built=(built,) * 3, kernels=KERNELS)


def on_device(agreement_pct: float = 99.5, n: int = 200, **changes: Any) -> DeviceFigures:
    """``agreement_pct`` is between the device and this host."""
    local = Closeness(runtime="onnxruntime-cpu", n=n, agreement_pct=agreement_pct, sqnr_db=41.25)
    figures = {"runtime": ON_DEVICE, "n": n, "n_labelled": n, "top1_lost": None, "top1_gained": None} | changes
    return DeviceFigures(accuracy=accuracy(**figures), local=local)


def counted(*found: Instructions) -> TargetReport:
    """A target whose instructions were counted on devices, and nothing else was measured there."""
    return target(devices={one.device: DeviceFigures(instructions=one) for one in found})


def target(**changes: Any) -> TargetReport:
    values: dict[str, Any] = {
        "bundle": "onnx",
        "model_file": "model.onnx",
        "recipe": "int8",
        "recipe_settings": {"base": "int8", "weight_range": "minmax"},
        "size_bytes": 8_800_000,
        "fp32_size_bytes": 31_000_000,
        "size_ratio": 8_800_000 / 31_000_000,
        "accuracy": accuracy(),
        "latency": latency(),
        "program_match": ProgramMatch(constants=300, layers=93),
        "delegation": Delegation(delegates=None, int8_ops=98, float_ops=11, fallback_ops=None),
        "tool_versions": {"torch": "2.13.0", "onnx": "1.23.2"},
    }
    return TargetReport(**(values | changes))


def evaluation(n: int = 1000) -> EvaluationSet:
    return EvaluationSet(source="photos", n=n, sha256="ef" * 32, skipped_images=("cat/1.png",))


def measured(wrong: int = 2, n: int = 40) -> Accuracy:
    """Accuracy with the outcomes of ``n`` images of two classes; float is right on all of them."""
    meter, floats = AccuracyMeter(), np.tile([[1.0, 0.0]], (n, 1))
    built = floats.copy()
    built[:wrong] = built[:wrong, ::-1]
    meter.update(floats, built, np.zeros(n, dtype=np.int64))
    return meter.result(runtime="onnxruntime-cpu", executed=True)


def answers(
    n: int = 1000, lost: int = 7, gained: int = 3, right: int = 800, since: tuple[int, int] = (0, 0)
) -> Accuracy:
    """Accuracy with the answers of ``n`` images, the first ``right`` of which float knows, of which ``lost`` are lost.

    ``since``: so many more of the known ones are lost, and so many of the lost ones are right again, as if something
    had changed since an earlier report.
    """
    known = np.arange(n) < right
    built = known.copy()
    built[right - lost : right] = False
    built[right : right + gained] = True
    built[: since[0]] = False
    built[right - lost : right - lost + since[1]] = True
    outcomes = Outcomes.of(known, built, known == built)
    return accuracy(
        n=n,
        n_labelled=n,
        top1_fp32_pct=100 * int(known.sum()) / n,
        top1_pct=100 * int(built.sum()) / n,
        top1_drop_pp=100 * (int(known.sum()) - int(built.sum())) / n,
        top1_lost=int((known & ~built).sum()),
        top1_gained=int((built & ~known).sum()),
        agreement_pct=100 * int((known == built).sum()) / n,
        outcomes=outcomes,
    )


def report(**targets: TargetReport) -> Report:
    return Report(
        host=Host(system="Linux", machine="x86_64", processor="a | b", cpu_count=2, python="3.11.7"),
        model=Model(variant="levit-128S", source="demo", sha256="ab" * 32, image_size=224, num_labels=10, parameters=7),
        calibration=Calibration(source="demo", samples=256, seed=0, sha256="cd" * 32),
        targets=targets,
    )


def calibrated(**changes: Any) -> Report:
    """A report of one target, with ``changes`` in what calibrated it."""
    found = report(onnx=target())
    assert found.calibration is not None
    return found.model_copy(update={"calibration": found.calibration.model_copy(update=changes)})


def everything_on_a_device(**figures: Any) -> TargetReport:
    """A target that another device answered and counted, and with ``figures`` more."""
    found = on_device().model_copy(update={"instructions": instructions(), **figures})
    return target(devices={DEVICE: found})


def agreement() -> Agreement:
    """The float model, a program and a file, on two images."""
    floats = np.array([[1.0, 0.0], [0.0, 1.0]])
    people = (
        Participant(name="torch float", target=None, runtime="torch 2.13", executed=False),
        Participant(name="onnx program", target="onnx", runtime="torch 2.13", executed=False),
        Participant(name="onnx x", target="onnx", runtime="ort", executed=True, program="onnx program"),
    )
    meter = AgreementMeter(people)
    meter.update([floats, floats + 0.1, floats[::-1]])
    return meter.result("pets")


UNMEASURED = target(bundle="coreml", model_file="model.mlpackage", accuracy=None, latency=None, delegation=None)
PASSED = GateResult(name="size_ratio", outcome="passed", value=0.284, limit=0.29)
FAILED = GateResult(name="agreement_pct", outcome="failed", value=97.0, limit=98.0, note="a | b\nc")
OUTSIDE = GateResult(name="speedup", outcome="not applicable", value=None, limit=1.0, note="no runtime ran here")
UNDECIDED = GateResult(name="top1_drop_pp", outcome="undecided", value=0.4, limit=0.5, low=-0.2, high=1.1, images=4000)
