"""What a gate is: one limit on one figure of a bundle. Each gate has its own file and its row in ``registry.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from levit_edge.metrics.accuracy import Accuracy
from levit_edge.report.schema import DeviceFigures, GateResult, Latency

BASES = ("int8", "w8a16", "fp16", "fp32")  # the built-in recipes, for which every gate has a default limit

Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Ratio = Annotated[float, Field(gt=0, allow_inf_nan=False)]

Measurement = Literal["accuracy", "devices", "size_ratio", "latency"]
EVERYTHING: frozenset[Measurement] = frozenset(get_args(Measurement))


@dataclass(frozen=True)
class Figures:
    """What was measured of one bundle; None where there was nothing to measure with.

    ``asked`` names what the caller set out to measure. A gate on a figure that nobody asked for gives no result; a gate
    on a figure that was asked for and is missing is skipped, and says so.
    """

    accuracy: Accuracy | None = None
    devices: Mapping[str, DeviceFigures] = field(default_factory=dict)
    size_ratio: float | None = None
    latency: Latency | None = None
    asked: frozenset[Measurement] = EVERYTHING


@dataclass(frozen=True)
class Gate:
    """One gate.

    ``limit`` names its limit in a thresholds file, such as ``max_top1_drop_pp``, and ``bounds`` is the pydantic type of
    that limit. ``defaults`` has the limit for each recipe of :data:`BASES`; None turns the gate off. ``figure`` is the
    part of :class:`Figures` that it looks at. ``check(figures, limit, classes)`` gives the results; ``classes`` is the
    model's number of classes, None where it is not known.
    """

    name: str
    limit: str
    bounds: Any
    defaults: Mapping[str, float | None]
    figure: Measurement
    check: Callable[[Figures, float, int | None], Iterator[GateResult]]

    def __post_init__(self) -> None:
        if set(self.defaults) != set(BASES):
            raise ValueError(f"gate {self.name}: the defaults need one limit for each of {', '.join(BASES)}")


def at_most(name: str, value: float, limit: float, note: str = "") -> GateResult:
    """Passed when ``value`` does not exceed ``limit``."""
    return GateResult(name=name, value=value, limit=limit, passed=value <= limit, note=note)


def at_least(name: str, value: float, limit: float, note: str = "") -> GateResult:
    """Passed when ``value`` is not below ``limit``."""
    return GateResult(name=name, value=value, limit=limit, passed=value >= limit, note=note)


def skipped(name: str, limit: float, note: str) -> GateResult:
    """A check without a value; ``note`` says why."""
    return GateResult(name=name, value=None, limit=limit, passed=None, note=note)
