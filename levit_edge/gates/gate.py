"""What a gate is: one limit on one figure of a bundle. Each gate has its own file and its row in ``registry.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from levit_edge.metrics.accuracy import Accuracy
from levit_edge.metrics.program_match import ProgramMatch
from levit_edge.report.gate_result import GateResult
from levit_edge.report.schema import Delegation, DeviceFigures, Latency

BASES = ("int8", "w8a16", "fp16", "fp32")  # the built-in recipes, for which every gate has a default limit

Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Versions = Annotated[dict[str, str], Field(min_length=1)]

Limit = float | int | str | dict[str, str]
Measurement = Literal["accuracy", "devices", "instructions", "size", "latency", "contents", "program match", "identity"]
EVERYTHING: frozenset[Measurement] = frozenset(get_args(Measurement))

RANDOM_WEIGHTS = "the weights are random: any rounding changes such answers"


@dataclass(frozen=True)
class Figures:
    """What was measured of one bundle; None where there was nothing to measure with.

    ``asked`` names what the caller set out to measure. A gate on a figure that nobody asked for gives no result; a gate
    on a figure that was asked for and is missing is undecided, and says so. ``executed`` tells whether this host's own
    runtime runs the file, and ``classes`` is the number of classes; None where that is not known.
    """

    accuracy: Accuracy | None = None
    devices: Mapping[str, DeviceFigures] = field(default_factory=dict)
    size_ratio: float | None = None
    size_bytes: int | None = None
    latency: Latency | None = None
    delegation: Delegation | None = None
    program_match: ProgramMatch | None = None
    calibration_sha256: str | None = None
    tool_versions: Mapping[str, str] = field(default_factory=dict)
    random_weights: bool = False
    executed: bool | None = None
    classes: int | None = None
    asked: frozenset[Measurement] = EVERYTHING


@dataclass(frozen=True)
class Gate:
    """One gate.

    ``limit`` names its limit in a gates file, such as ``max_top1_drop_pp``, and ``bounds`` is the pydantic type of that
    limit. ``help`` says in one line what is limited. ``figure`` is the part of :class:`Figures` that it looks at, and
    ``check(figures, limit)`` gives the results. ``defaults`` has the limit for each recipe of :data:`BASES`; None turns
    the gate off, as without any. ``per_device``: the limit may differ from device to device, and ``check`` gets one
    device at a time.
    """

    name: str
    limit: str
    bounds: Any
    help: str
    figure: Measurement
    check: Callable[[Figures, Any], Iterator[GateResult]]
    defaults: Mapping[str, Limit | None] = field(default_factory=lambda: dict.fromkeys(BASES))
    per_device: bool = False

    def __post_init__(self) -> None:
        if set(self.defaults) != set(BASES):
            raise ValueError(f"gate {self.name}: the defaults need one limit for each of {', '.join(BASES)}")


def at_most(name: str, value: float, limit: float, note: str = "") -> GateResult:
    """For a figure that is counted, not sampled: passed when ``value`` does not exceed ``limit``."""
    return GateResult(name=name, outcome="passed" if value <= limit else "failed", value=value, limit=limit, note=note)


def at_least(name: str, value: float, limit: float, note: str = "") -> GateResult:
    """For a figure that is counted, not sampled: passed when ``value`` is not below ``limit``."""
    return GateResult(name=name, outcome="passed" if value >= limit else "failed", value=value, limit=limit, note=note)


def undecided(name: str, limit: float | str | None, note: str) -> GateResult:
    """A check whose figure was asked for and is missing; ``note`` says what would provide it."""
    return GateResult(name=name, outcome="undecided", value=None, limit=limit, note=note)


def not_applicable(name: str, limit: float | str | None, note: str) -> GateResult:
    """A check of something that cannot exist here; ``note`` says why."""
    return GateResult(name=name, outcome="not applicable", value=None, limit=limit, note=note)
