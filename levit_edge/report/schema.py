"""``report.json``: what a build measured, as data. How it is shown to a person is in ``levit_edge.report.markdown``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, ValidationError, computed_field, field_validator, model_validator

from levit_edge.bundle.files import json_text, schema_reason
from levit_edge.bundle.manifest import Sha256
from levit_edge.bundle.publish import settle
from levit_edge.errors import InputError
from levit_edge.metrics.accuracy import Accuracy
from levit_edge.metrics.agreement import Agreement
from levit_edge.metrics.closeness import Closeness
from levit_edge.metrics.instructions import Instructions
from levit_edge.metrics.latency import LatencyStats, Speedup
from levit_edge.metrics.program_match import ProgramMatch
from levit_edge.record import Record
from levit_edge.report.gate_result import GateResult, Verdict, acceptable, overall, verdict
from levit_edge.report.mixed_precision import MixedPrecision
from levit_edge.report.policy import UndecidedPolicy

SCHEMA_VERSION: Literal[1] = 1
MAX_BYTES = 2**63 - 1


class Host(Record):
    """The machine that built and measured."""

    system: str
    machine: str
    processor: str
    cpu_count: int = Field(ge=1)
    python: str


class Model(Record):
    """The checkpoint. ``source`` is what the user named (never an absolute path of the build machine).

    ``random_weights``: it was built with ``--random-weights``, so its answers mean nothing.
    """

    variant: str
    source: str
    sha256: Sha256
    image_size: int = Field(ge=1)
    num_labels: int = Field(ge=0)
    parameters: int = Field(ge=0)
    random_weights: bool = False


class Calibration(Record):
    """The images that chose the scales. ``sha256`` covers the sampled images and the preprocessing."""

    source: str
    samples: int = Field(ge=0)
    seed: int
    sha256: Sha256
    skipped_images: tuple[str, ...] = ()


class EvaluationSet(Record):
    """The images that measured the accuracy: ``n`` of ``source`` were answered.

    ``sha256`` covers the preprocessing and, in the order of the pass, the name, class index and file content of each
    answered image (:class:`calibration.EvaluationHash`): equal sums mean the same images, seen in the same way.
    """

    source: str
    n: int = Field(ge=1)
    sha256: Sha256
    skipped_images: tuple[str, ...] = ()


class Milliseconds(Record):
    """One runner's times."""

    median: float = Field(gt=0)
    p90: float = Field(gt=0)


class Latency(Record):
    """Paired times of the float reference and of the built model (``int8_ms``, whatever its recipe).

    ``speedup`` is the median of the rounds' ratios and ``speedup_low``..``speedup_high`` its 95 % interval.
    """

    runtime: str
    threads: int = Field(ge=1)
    runs: int = Field(ge=1)
    fp32_ms: Milliseconds
    int8_ms: Milliseconds
    speedup: float = Field(gt=0)
    speedup_low: float = Field(gt=0)
    speedup_high: float = Field(gt=0)

    @model_validator(mode="after")
    def _check_order(self) -> Latency:
        if not self.speedup_low <= self.speedup <= self.speedup_high:
            raise ValueError(f"speedup is {self.speedup}, outside {self.speedup_low} to {self.speedup_high}")
        return self

    @property
    def source(self) -> str:
        """What was timed, in words: ``onnxruntime-cpu, threads=1``."""
        return f"{self.runtime}, threads={self.threads}"

    @classmethod
    def of(cls, *, runtime: str, threads: int, fp32: LatencyStats, int8: LatencyStats, speedup: Speedup) -> Latency:
        """The entry for one paired measurement."""
        return cls(
            runtime=runtime,
            threads=threads,
            runs=len(fp32.samples),
            fp32_ms=Milliseconds(median=fp32.median_ms, p90=fp32.p90_ms),
            int8_ms=Milliseconds(median=int8.median_ms, p90=int8.p90_ms),
            speedup=speedup.median,
            speedup_low=speedup.low,
            speedup_high=speedup.high,
        )


class DeviceFigures(Record):
    """What one device other than this host measured of a bundle; None where it cannot, or nothing was asked.

    ``accuracy`` is against the float model, ``local`` against the same file in this host's runtime. A device that
    counts has ``instructions``, one that times has ``latency``.
    """

    accuracy: Accuracy | None = None
    local: Closeness | None = None
    instructions: Instructions | None = None
    latency: Latency | None = None


class Delegation(Record):
    """What runs where: delegated partitions, operators in int8, in float, and those left to slow reference kernels.

    ``delegates`` and ``fallback_ops`` are None for a runtime without delegates. ``operators`` counts the operators by
    name, precision and placement, such as ``XNNFullyConnected int8 delegate``, in alphabetical order; empty in reports
    of earlier versions.
    """

    delegates: int | None = Field(ge=0)
    int8_ops: int = Field(ge=0)
    float_ops: int = Field(ge=0)
    fallback_ops: int | None = Field(ge=0)
    operators: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)

    @field_validator("operators")
    @classmethod
    def _in_order(cls, operators: dict[str, int]) -> dict[str, int]:
        return dict(sorted(operators.items()))


class TargetReport(Record):
    """One bundle. ``size_ratio`` is model file / float reference file; figures that were not measured are None.

    ``recipe_base`` is the built-in recipe whose limits hold for ``recipe``, and ``recipe_settings`` says how it
    quantizes (empty in reports of earlier versions). ``mixed_precision`` tells what it keeps float because more
    accuracy was asked for. ``accuracy`` and ``latency`` are those of this host; ``devices`` has the figures of other
    machines, by the name of the device. ``program_match`` compares the constants and layers of the model file with
    those of its program. ``ranges`` has the (lowest, highest) real number that each tensor of the program can hold as
    an integer, such as ``blocks.8.proj input``; of weights, those of the widest channel. ``float_tensors`` says of all
    other tensors of an int8 model why they are float.
    """

    bundle: str
    model_file: str
    recipe: str
    recipe_base: str | None = None
    recipe_settings: dict[str, JsonValue] = Field(default_factory=dict)
    mixed_precision: MixedPrecision | None = None
    size_bytes: int = Field(ge=1, le=MAX_BYTES)
    fp32_size_bytes: int = Field(ge=1, le=MAX_BYTES)
    size_ratio: float = Field(gt=0)
    accuracy: Accuracy | None = None
    devices: dict[str, DeviceFigures] = Field(default_factory=dict)
    latency: Latency | None = None
    program_match: ProgramMatch | None = None
    ranges: dict[str, tuple[float, float]] = Field(default_factory=dict)
    float_tensors: dict[str, str] = Field(default_factory=dict)
    delegation: Delegation | None = None
    gates: tuple[GateResult, ...] = ()
    tool_versions: dict[str, str] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _move_instructions(cls, entry: Any) -> Any:
        """Reports of earlier versions have the instructions of a device in ``latency.arm64``, null without a device."""
        latency = entry.get("latency") if isinstance(entry, dict) else None
        if not isinstance(latency, dict) or "arm64" not in latency:
            return entry
        moved = {**entry, "latency": {name: value for name, value in latency.items() if name != "arm64"}}
        match latency["arm64"]:
            case None:
                return moved
            case {"device": str(device)} as counted:
                devices = entry.get("devices") or {}
                there = devices.get(device) or {} if isinstance(devices, dict) else None
                if isinstance(there, dict):
                    return {**moved, "devices": {**devices, device: {**there, "instructions": counted}}}
        return entry

    @computed_field  # type: ignore[prop-decorator]
    @property
    def verdict(self) -> Verdict:
        """That of all gates: see :func:`verdict`."""
        return verdict(self.gates)


class Report(Record):
    """A whole build; ``targets`` are kept in alphabetical order. ``agreement`` compares all that compute the model.

    ``evaluation`` are the images that every target's ``accuracy`` was measured on; None where no image was evaluated,
    and in reports of earlier versions.
    ``undecided`` says whether an undecided gate fails the build.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    host: Host
    model: Model
    calibration: Calibration | None
    targets: dict[str, TargetReport]
    evaluation: EvaluationSet | None = None
    agreement: Agreement | None = None
    undecided: UndecidedPolicy = "fail"
    warnings: tuple[str, ...] = ()

    @field_validator("targets")
    @classmethod
    def _in_order(cls, targets: dict[str, TargetReport]) -> dict[str, TargetReport]:
        return {
            name: target.model_copy(update={"tool_versions": dict(sorted(target.tool_versions.items()))})
            for name, target in sorted(targets.items())
        }

    @model_validator(mode="after")
    def _check_evaluation(self) -> Report:
        if self.evaluation is None:
            return self
        for name, target in self.targets.items():
            if target.accuracy is not None and target.accuracy.n != self.evaluation.n:
                raise ValueError(
                    f"targets.{name}.accuracy.n is {target.accuracy.n}, but {self.evaluation.n} images were evaluated"
                )
        return self

    @computed_field  # type: ignore[prop-decorator]
    @property
    def verdict(self) -> Verdict:
        """That of the gates of all targets."""
        return overall(target.gates for target in self.targets.values())

    @property
    def passed(self) -> bool:
        """False when a gate of any target failed, or was undecided where that counts as a failure, or none passed."""
        return acceptable((target.gates for target in self.targets.values()), self.undecided)

    def to_json(self) -> str:
        """The text of ``report.json``: the same report always gives the same bytes."""
        return json_text(self.model_dump(mode="json"))


def load_report(path: Path) -> Report:
    """Read ``report.json``; InputError when it is missing, not JSON, of another schema, or does not fit the schema.

    Completes a publication that a killed build left unfinished (:func:`levit_edge.bundle.publish.settle`).
    """
    try:
        settle(path.absolute().parent)
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; a build writes report.json into its output folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a report: {error}") from None
    try:
        return Report.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"{path} {schema_reason(error, 'a levit-edge report', SCHEMA_VERSION)}") from None
