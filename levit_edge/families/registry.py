"""The model families that levit-edge knows, one row each, and which of them a checkpoint belongs to."""

from __future__ import annotations

from levit_edge.errors import InputError
from levit_edge.families.family import Family, Source
from levit_edge.families.levit.family import FAMILY as LEVIT
from levit_edge.wording import listed

FAMILIES: dict[str, Family] = {row.name: row for row in (LEVIT,)}


def family(name: str) -> Family:
    """The family called ``name``; InputError with the valid names for any other."""
    if name not in FAMILIES:
        raise InputError(f"unknown model family {name!r}; valid: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def recognise(source: Source) -> Family:
    """The one family that recognises ``source``; InputError, with what was looked at, when none or several do."""
    config = source.config or {}
    fitting = [row for row in FAMILIES.values() if row.recognises(source.state.keys(), config)]
    if len(fitting) == 1:
        return fitting[0]
    found = f"its keys are {listed(sorted(source.state)) or 'none'}"
    if "model_type" in config:
        found += f"; config.json says model_type {config['model_type']!r}"
    if fitting:
        raise InputError(f"of more than one model family ({', '.join(row.name for row in fitting)}); {found}")
    raise InputError(f"not of a known model family ({', '.join(FAMILIES)}); {found}")
