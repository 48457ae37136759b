"""The answers of the verbs besides ``build``: one record each, for the terminal and for ``--json``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, computed_field

from levit_edge.metrics.accuracy import Accuracy
from levit_edge.metrics.closeness import Closeness
from levit_edge.metrics.instructions import Instructions
from levit_edge.metrics.program_match import ProgramMatch
from levit_edge.record import Record
from levit_edge.report.gate_result import GateResult, Verdict, acceptable, overall, verdict
from levit_edge.report.policy import UndecidedPolicy
from levit_edge.report.schema import EvaluationSet, Latency

Precision = Literal["int8", "float", "move"]
Placement = Literal["delegate", "runtime", "fallback"]
Availability = str  # "yes", "no", or what it needs, such as "needs macOS"


class Evaluation(Record):
    """Accuracy of one bundle on ``device`` against its float reference, and the gates on it.

    ``images`` are those that were evaluated. ``local`` says how close the answers of another device come to those of
    this host's runtime, and ``program_match`` how the built model compares with its program here; None where the bundle
    comes without the program.
    """

    bundle: str
    target: str
    device: str = "local"
    accuracy: Accuracy
    images: EvaluationSet | None = None
    local: Closeness | None = None
    program_match: ProgramMatch | None = None
    undecided: UndecidedPolicy = "fail"
    gates: tuple[GateResult, ...] = ()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def verdict(self) -> Verdict:
        """That of all gates: see :func:`levit_edge.report.gate_result.verdict`."""
        return verdict(self.gates)

    @property
    def passed(self) -> bool:
        """False when a gate failed, or was undecided where that counts as a failure, or none passed."""
        return acceptable([self.gates], self.undecided)


class BenchRow(Record):
    """Paired latency of one bundle, or its instructions on a device that counts; without either, ``note`` says why."""

    bundle: str
    target: str
    runtime: str
    latency: Latency | None = None
    instructions: Instructions | None = None
    note: str = ""


class BenchResult(Record):
    """Every bundle of one ``bench``, in the order given, all measured on ``device``."""

    device: str
    rows: tuple[BenchRow, ...]


class OperatorRow(Record):
    """Operators of one kind. A ``move`` only rearranges data; a ``fallback`` runs in a slow reference kernel."""

    name: str
    precision: Precision
    placement: Placement
    count: int = Field(ge=1)


class Inspection(Record):
    """What runs where in one bundle. ``delegates`` and ``fallback_ops`` are None for a runtime without delegates."""

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


class LabelScore(Record):
    """One class and the model's softmax probability for it."""

    label: str
    probability_pct: float = Field(ge=0, le=100)


class Prediction(Record):
    """The most probable classes of one image, best first. ``executed`` is false for a simulated runtime."""

    image: str
    runtime: str
    executed: bool
    top: tuple[LabelScore, ...]


class Predictions(Record):
    """The answer of ``predict``."""

    bundle: str
    images: tuple[Prediction, ...]


class DoctorRow(Record):
    """One target or device. ``fix`` is the command or step that adds what is missing; empty when nothing is."""

    name: str
    kind: Literal["target", "device"]
    lowers: Availability | None = None
    executes: Availability
    packages: dict[str, str | None] = Field(default_factory=dict)
    note: str = ""
    fix: str = ""


class DoctorReport(Record):
    """What works on this machine."""

    levit_edge: str
    python: str
    platform: str
    rows: tuple[DoctorRow, ...]


class GateCheck(Record):
    """The answer of ``gate``: every check of every target. ``written`` is the gates file that ``--init`` made."""

    report: str
    baseline: str | None = None
    undecided: UndecidedPolicy = "fail"
    targets: dict[str, tuple[GateResult, ...]]
    written: str | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def verdict(self) -> Verdict:
        """That of all gates: see :func:`levit_edge.report.gate_result.verdict`."""
        return overall(self.targets.values())

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """False when a gate failed, or was undecided where that counts as a failure, and where no gate passed."""
        return acceptable(self.targets.values(), self.undecided)


class AddedDevice(Record):
    """A device that was added to this machine. ``note`` says what it cannot do; empty when it can do everything."""

    name: str
    folder: str
    versions: dict[str, str]
    size_bytes: int = Field(ge=0)
    note: str = ""


class RemovedDevice(Record):
    """The disk space that removing a device freed; 0 bytes when there was none."""

    name: str
    freed_bytes: int = Field(ge=0)
