"""``gates.toml``: the limits of a project, for all targets, for one target, and for one device.

    schema_version = 1
    undecided = "fail"                 # or "warn"

    [limits]                           # for every target
    max_top1_drop_pp = 1.0
    min_sqnr_db = 25

    [regression]                       # against the report that --baseline names
    accept_difference = ["host"]

    [targets.coreml.limits]            # for one target
    min_speedup = "off"

    [devices."qemu-arm64:cortex-a76"]  # for one device; also [targets.onnx.devices."..."]
    max_device_instructions_m = 62

A limit that the file does not name keeps its default, and ``"off"`` removes the gate.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from levit_edge.errors import InputError
from levit_edge.gates.gate import Gate, Limit
from levit_edge.gates.registry import GATES
from levit_edge.record import Record
from levit_edge.report.policy import IdentityName, UndecidedPolicy

SCHEMA_VERSION: Literal[1] = 1
OFF = "off"

Table = Mapping[str, Limit | None]
"""Limits by their name, such as ``max_top1_drop_pp``; None turns the gate off."""


def checked_limits(table: Any, gates: Iterable[Gate]) -> Table:
    """``table`` (limit by name) with None for ``"off"``; ValueError says which entry is wrong."""
    if not isinstance(table, dict):
        raise ValueError(f"{table!r} is no table of limits")
    bounds = {gate.limit: TypeAdapter[Any](gate.bounds) for gate in gates}
    checked = dict[str, Limit | None]()
    for name, value in table.items():
        if name not in bounds:
            raise ValueError(f"unknown limit '{name}'; valid: {', '.join(bounds)}")
        try:
            checked[name] = None if value in (OFF, None) else bounds[name].validate_python(value, strict=True)
        except ValidationError as error:
            raise ValueError(f'{name} is {value!r}: {error.errors()[0]["msg"]}; "{OFF}" removes the gate') from None
    return checked


Limits = Annotated[Table, BeforeValidator(lambda table: checked_limits(table, GATES.values()))]
DeviceLimits = Annotated[
    Table, BeforeValidator(lambda table: checked_limits(table, [gate for gate in GATES.values() if gate.per_device]))
]


class _Strict(Record):
    """A number is a number: ``true`` and ``"1"`` are not."""

    model_config = ConfigDict(strict=True)


class Regression(_Strict):
    """How much worse than the baseline a figure may be, and which differences of identity are intended.

    The two accuracies are compared on the same images, answer by answer: the tolerance is kept only where the interval
    of the loss says so. A speedup depends on the day, so its tolerance is wide; a kernel that falls back to float costs
    more than that. Instruction counts depend on no clock, so theirs is narrow. Structure may not change at all. The
    ranges of the stored tensors follow from the model, the calibration images and the recipe, up to the rounding of a
    processor.
    """

    accept_difference: Annotated[tuple[IdentityName, ...], Field(strict=False)] = ()
    top1_drop_pp: float = Field(default=1.0, gt=0, le=100)
    agreement_pp: float = Field(default=1.0, gt=0, le=100)
    sqnr_db: float = Field(default=1.0, ge=0)
    ranges_pct: float = Field(default=10.0, ge=0, lt=100)  # 100 is a tensor that only one side stores
    size_pct: float = Field(default=2.0, ge=0)
    speedup_pct: float = Field(default=30.0, ge=0, lt=100)
    instructions_pct: float = Field(default=2.0, ge=0)


class TargetSettings(_Strict):
    """What holds for one target on top of what holds for all."""

    limits: Limits = Field(default_factory=dict)
    regression: Regression = Regression()
    devices: dict[str, DeviceLimits] = Field(default_factory=dict)


class GatesFile(_Strict):
    """The whole file, or no file: then every gate has its default limit."""

    schema_version: Literal[1] = SCHEMA_VERSION
    undecided: UndecidedPolicy = "fail"
    limits: Limits = Field(default_factory=dict)
    regression: Regression = Regression()
    devices: dict[str, DeviceLimits] = Field(default_factory=dict)
    targets: dict[str, TargetSettings] = Field(default_factory=dict)

    def regression_of(self, target: str) -> Regression:
        """The tolerances of one target; it accepts what is accepted for all, and its own differences."""
        own = self.targets[target].regression if target in self.targets else Regression()
        accepted = tuple(dict.fromkeys((*self.regression.accept_difference, *own.accept_difference)))
        named = {name: getattr(own, name) for name in own.model_fields_set}  # what the file says, without the defaults
        return self.regression.model_copy(update={**named, "accept_difference": accepted})


def read_gates(
    path: Path | None,
    targets: Iterable[str],
    undecided: UndecidedPolicy | None = None,
    accept_difference: Sequence[IdentityName] = (),
) -> GatesFile:
    """:func:`load_gates_file`, or the defaults without a ``path``, with what the caller asked for on top."""
    file = GatesFile() if path is None else load_gates_file(path, targets)
    accepted = tuple(dict.fromkeys((*file.regression.accept_difference, *accept_difference)))
    regression = file.regression.model_copy(update={"accept_difference": accepted})
    return file.model_copy(update={"regression": regression, "undecided": undecided or file.undecided})


def load_gates_file(path: Path, targets: Iterable[str]) -> GatesFile:
    """Read ``path``; InputError for a file that cannot be read, an unknown key or target, and a value out of bounds."""
    valid = tuple(targets)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} cannot be read as a gates file: {error}") from None
    if "schema_version" not in content:
        raise InputError(f"{path} has no schema_version; write schema_version = {SCHEMA_VERSION} in its first line")
    try:
        settings = GatesFile.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path}: {_reason(error)}") from None
    for name in settings.targets:
        if name not in valid:
            raise InputError(f"{path}: unknown target {name!r} in [targets]; valid: {', '.join(valid)}")
    return settings


def _reason(error: ValidationError) -> str:
    first = error.errors()[0]
    place, reason = ".".join(str(part) for part in first["loc"]), first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"unknown key '{place}'; valid tables: limits, regression, devices, targets"
    return f"{place}: {reason}" if first["type"] == "value_error" else f"{place} is {first['input']!r}: {reason}"
