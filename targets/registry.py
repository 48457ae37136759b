"""The targets by name: one dict, whose rows live in the folders of the targets."""

from __future__ import annotations

from levit_edge.errors import InputError
from targets.coreml import target as coreml
from targets.ort import target as ort
from targets.target import Target
from targets.xnnpack import target as xnnpack

TARGETS: dict[str, Target] = {row.name: row for row in (xnnpack.TARGET, coreml.TARGET, ort.TARGET)}


def target(name: str) -> Target:
    """The target called ``name``; InputError with the valid names for any other."""
    if name not in TARGETS:
        raise InputError(f"unknown target {name!r}; valid: {', '.join(TARGETS)}")
    return TARGETS[name]
