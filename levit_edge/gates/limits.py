"""The limits that a bundle must keep: one row per recipe, the sizes per target, overridable from a TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from levit_edge.errors import InputError

OFF = "off"


class Thresholds(BaseModel):
    """Limits for one bundle; None turns that gate off.

    ``min_device_agreement_pct`` is for one model file on two machines: a device against the runtime of this host.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_top1_drop_pp: float | None = Field(default=0.5, ge=0, le=100)
    min_agreement_pct: float | None = Field(default=98.0, ge=0, le=100)
    min_device_agreement_pct: float | None = Field(default=99.0, ge=0, le=100)
    max_size_ratio: float | None = Field(default=None, gt=0)
    min_speedup: float | None = Field(default=1.0, gt=0)


# Size ratios: int8 weights cost a quarter of float32, and the graph, the scales and what stays float come on top. The
# materialised attention bias stays float in ExecuTorch, hence its larger share. Only int8 is expected to be faster on
# the host that builds: the 16-bit recipes pay off on a phone's own accelerator.
_BY_RECIPE: dict[str, Thresholds] = {
    "int8": Thresholds(),
    "w8a16": Thresholds(min_agreement_pct=99.0, min_speedup=None),
    "fp16": Thresholds(max_top1_drop_pp=0.2, min_agreement_pct=99.5, min_speedup=None),
    "fp32": Thresholds(max_top1_drop_pp=0.1, min_agreement_pct=99.9, min_speedup=None),
}
_SIZE_RATIO: dict[str, dict[str, float]] = {
    "int8": {"executorch": 0.32, "coreml": 0.29, "onnx": 0.29},
    "w8a16": {"executorch": 0.32, "coreml": 0.29, "onnx": 0.29},
    "fp16": {"executorch": 0.55, "coreml": 0.55, "onnx": 0.55},
    "fp32": {"executorch": 1.05, "coreml": 1.05, "onnx": 1.05},
}
TARGETS = tuple(_SIZE_RATIO["int8"])

_Setting = float | Literal["off"] | None


class _Limits(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    max_top1_drop_pp: _Setting = None
    min_agreement_pct: _Setting = None
    min_device_agreement_pct: _Setting = None
    max_size_ratio: _Setting = None
    min_speedup: _Setting = None


class _File(_Limits):
    executorch: _Limits = _Limits()
    coreml: _Limits = _Limits()
    onnx: _Limits = _Limits()


def default_thresholds(recipe: str, target: str) -> Thresholds:
    """The limits of a published recipe on a target; InputError with the valid names for any other."""
    if recipe not in _BY_RECIPE:
        raise InputError(f"no thresholds for recipe {recipe!r}; valid: {', '.join(_BY_RECIPE)}")
    if target not in TARGETS:
        raise InputError(f"no thresholds for target {target!r}; valid: {', '.join(TARGETS)}")
    return _BY_RECIPE[recipe].model_copy(update={"max_size_ratio": _SIZE_RATIO[recipe][target]})


def load_thresholds(path: Path) -> dict[str, dict[str, float | None]]:
    """What a TOML file changes, per target: keys at the top hold for every target, a table ``[onnx]`` for that one.

    A limit is a number, or ``"off"`` for no such gate::

        max_top1_drop_pp = 0.3
        [coreml]
        min_speedup = "off"
    """
    try:
        file = _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        changes = {target: _changes(file) | _changes(getattr(file, target)) for target in TARGETS}
        for change in changes.values():
            Thresholds.model_validate(change)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} cannot be read as thresholds: {error}") from None
    except ValidationError as error:
        raise InputError(f"{path}: {_reason(error)}") from None
    return changes


def thresholds_for(recipe: str, target: str, changes: dict[str, dict[str, float | None]] | None = None) -> Thresholds:
    """:func:`default_thresholds` with what :func:`load_thresholds` read on top."""
    default = default_thresholds(recipe, target)
    return Thresholds.model_validate(default.model_dump() | (changes or {}).get(target, {}))


def _changes(limits: _Limits) -> dict[str, float | None]:
    settings = limits.model_dump(include=set(Thresholds.model_fields), exclude_none=True)
    return {name: None if value == OFF else value for name, value in settings.items()}


def _reason(error: ValidationError) -> str:
    first: Any = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part not in ("float", "literal['off']"))
    if first["type"] == "extra_forbidden":
        return f"unknown key {place!r}; valid: {', '.join(Thresholds.model_fields)}, and tables {', '.join(TARGETS)}"
    if isinstance(first["input"], str | bool | list):
        return f'{place} is {first["input"]!r}; give a number, or "{OFF}"'
    return f"{place} is {first['input']!r}: {first['msg']}"
