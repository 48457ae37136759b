"""What the verbs besides ``build`` find out, as data: one model per answer, the same on screen and in ``--json``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from levit_edge.metrics.accuracy import Accuracy
from levit_edge.metrics.agreement import Closeness
from levit_edge.metrics.instructions import ArmInstructions
from levit_edge.report.schema import GateResult, Latency, Verdict, verdict

Precision = Literal["int8", "float", "move"]
Placement = Literal["delegate", "runtime", "fallback"]
Availability = str  # "yes", "no", or what it needs, such as "needs macOS"


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Evaluation(_Result):
    """Accuracy of one bundle on ``device`` against its float reference, and the gates on it.

    ``local`` says how close the answers of another device are to those of this host's runtime, its reference.
    """

    bundle: str
    target: str
    device: str = "local"
    accuracy: Accuracy
    local: Closeness | None = None
    gates: tuple[GateResult, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """``failed`` when any gate failed, ``not measured`` when none could be checked."""
        return verdict(self.gates)


class BenchRow(_Result):
    """Paired latency of one bundle, or its instructions on an emulator; without either, ``note`` says why."""

    bundle: str
    target: str
    runtime: str
    latency: Latency | None = None
    instructions: ArmInstructions | None = None
    note: str = ""


class BenchResult(_Result):
    """Every bundle of one ``bench``, in the order given. The bundles of one call are measured on one device."""

    device: str
    rows: tuple[BenchRow, ...]


class OperatorRow(_Result):
    """Operators of one kind. ``move`` only rearranges data; ``fallback`` is the slow reference kernel."""

    name: str
    precision: Precision
    placement: Placement
    count: int = Field(ge=1)


class Inspection(_Result):
    """What runs where in one bundle. ``delegates`` is None for a runtime that has no such thing."""

    bundle: str
    target: str
    model_file: str
    size_bytes: int = Field(ge=1)
    delegates: int | None = Field(default=None, ge=0)
    int8_ops: int = Field(ge=0)
    float_ops: int = Field(ge=0)
    fallback_ops: int | None = Field(default=None, ge=0)
    operators: tuple[OperatorRow, ...] = ()
    notes: tuple[str, ...] = ()


class LabelScore(_Result):
    """One class and the model's softmax probability for it."""

    label: str
    probability_pct: float = Field(ge=0, le=100)


class Prediction(_Result):
    """The most probable classes of one image, best first. ``executed`` is false for a simulated runtime."""

    image: str
    runtime: str
    executed: bool
    top: tuple[LabelScore, ...]


class Predictions(_Result):
    """The answer of ``predict``."""

    bundle: str
    images: tuple[Prediction, ...]


class DoctorRow(_Result):
    """One target or device. ``fix`` is the command or the step that adds what is missing, empty when nothing is."""

    name: str
    kind: Literal["target", "device"]
    lowers: Availability | None = None
    executes: Availability
    packages: dict[str, str | None] = Field(default_factory=dict)
    note: str = ""
    fix: str = ""


class DoctorReport(_Result):
    """What works on this machine."""

    levit_edge: str
    python: str
    platform: str
    rows: tuple[DoctorRow, ...]


class GateCheck(_Result):
    """The answer of ``gate``: every check of every target. ``passed`` is None for a check without a value."""

    report: str
    baseline: str | None = None
    passed: bool
    targets: dict[str, tuple[GateResult, ...]]


class AddedDevice(_Result):
    """An emulated machine on disk. ``note`` says what it cannot do, empty when it can do everything."""

    name: str
    folder: str
    versions: dict[str, str]
    size_bytes: int = Field(ge=0)
    note: str = ""


class RemovedDevice(_Result):
    """What removing an emulated machine gave back; 0 bytes when it was not there."""

    name: str
    freed_bytes: int = Field(ge=0)
