"""Which limits hold for a bundle: those of the gates, changed by its target, changed by a TOML file.

The numbers themselves stand in the file of each gate and in the record of each target.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from levit_edge.errors import InputError
from levit_edge.gates.gate import BASES
from levit_edge.gates.registry import GATES

OFF = "off"

Limits = Mapping[str, float | None]
"""The limit of each gate by the name of the limit, such as ``max_top1_drop_pp``; None turns the gate off."""


def default_limits(recipe: str, of_target: Mapping[str, Limits]) -> Limits:
    """The limits of the built-in ``recipe``, with those that ``of_target`` (recipe -> limit -> value) has on top.

    Raises InputError with the valid names for any other recipe.
    """
    if recipe not in BASES:
        raise InputError(f"no thresholds for recipe {recipe!r}; valid: {', '.join(BASES)}")
    return {gate.limit: gate.defaults[recipe] for gate in GATES.values()} | _checked(of_target.get(recipe, {}))


def limits_for(recipe: str, of_target: Mapping[str, Limits], changes: Limits | None = None) -> Limits:
    """:func:`default_limits` with the target's ``changes`` from :func:`load_limits` on top."""
    return {**default_limits(recipe, of_target), **_checked(changes or {})}


def load_limits(path: Path, targets: Iterable[str]) -> dict[str, Limits]:
    """What a TOML file changes, by target: keys at the top hold for every target, a table for the target it names.

    A limit is a number, or ``"off"`` for no such gate::

        max_top1_drop_pp = 0.3
        [mytarget]
        min_speedup = "off"

    Raises InputError for a file that cannot be read, an unknown key, and a value that is not a valid limit.
    """
    names = tuple(targets)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} cannot be read as thresholds: {error}") from None
    try:
        everywhere = _settings({key: value for key, value in content.items() if key not in names}, "", names)
        return {name: everywhere | _table(content.get(name, {}), name, names) for name in names}
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def _table(content: Any, name: str, targets: tuple[str, ...]) -> dict[str, float | None]:
    if not isinstance(content, dict):
        raise ValueError(f"{name} is {content!r}; give a table of limits")
    return _settings(content, f"{name}.", targets)


def _settings(content: Mapping[str, Any], place: str, targets: tuple[str, ...]) -> dict[str, float | None]:
    valid = [gate.limit for gate in GATES.values()]
    for key, value in content.items():
        if key not in valid:
            tables = "" if place else f", and tables {', '.join(targets)}"
            raise ValueError(f"unknown key '{place}{key}'; valid: {', '.join(valid)}{tables}")
        if isinstance(value, str | bool | list) and value != OFF:
            raise ValueError(f'{place}{key} is {value!r}; give a number, or "{OFF}"')
    return _checked({key: None if value == OFF else value for key, value in content.items()}, place)


def _checked(limits: Limits, place: str = "") -> dict[str, float | None]:
    """``limits`` if every value lies within the bounds of its gate; ValueError otherwise."""
    bounds = {gate.limit: TypeAdapter[float](gate.bounds) for gate in GATES.values()}
    for name, value in limits.items():
        if name not in bounds:
            raise ValueError(f"no gate has the limit {name!r}; valid: {', '.join(bounds)}")
        if value is not None:
            try:
                bounds[name].validate_python(value, strict=True)
            except ValidationError as error:
                raise ValueError(f"{place}{name} is {value!r}: {error.errors()[0]['msg']}") from None
    return dict(limits)
