"""Which limits hold for a bundle: those of the gates, changed by its target, changed by the gates file.

The numbers themselves stand in the file of each gate and in the record of each target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from levit_edge.errors import InputError
from levit_edge.gates.gate import BASES, Gate, Limit
from levit_edge.gates.gates_file import GatesFile, Table, TargetSettings, checked_limits
from levit_edge.gates.registry import GATES
from levit_edge.gates.sqnr import SQNR
from levit_edge.gates.top1_drop import TOP1_DROP


@dataclass(frozen=True)
class Limits:
    """The limits of one bundle; ``devices`` has those that differ on a device, by its name.

    ``own`` names the devices that have limits for this target alone.
    """

    bundle: Table
    devices: Mapping[str, Table] = field(default_factory=dict)
    own: frozenset[str] = frozenset()

    def of(self, gate: Gate, device: str | None = None) -> Limit | None:
        """The limit of ``gate``, on ``device`` where it is one of a device; None where the gate is off."""
        on_device = self.devices.get(device or "", {})
        return on_device[gate.limit] if gate.limit in on_device else self.bundle.get(gate.limit)

    def held_to(self, min_sqnr_db: float | None, max_drop_pp: float | None) -> Limits:
        """These limits, and none laxer than what a build was asked for; None asks for nothing."""
        bundle = dict(self.bundle)
        for gate, asked, stricter in ((SQNR, min_sqnr_db, max), (TOP1_DROP, max_drop_pp, min)):
            found = bundle.get(gate.limit)
            if asked is not None:
                bundle[gate.limit] = stricter(found, asked) if isinstance(found, int | float) else asked
        return replace(self, bundle=bundle)


def default_limits(recipe: str, of_target: Mapping[str, Table]) -> Table:
    """The limits of the built-in ``recipe``, with those that ``of_target`` (recipe -> limit -> value) has on top.

    Raises InputError with the valid names for any other recipe, ValueError where a target names no gate's limit or a
    value out of its bounds.
    """
    if recipe not in BASES:
        raise InputError(f"no limits for recipe {recipe!r}; valid: {', '.join(BASES)}")
    of_recipe = {gate.limit: gate.defaults[recipe] for gate in GATES.values()}
    return {**of_recipe, **checked_limits(of_target.get(recipe, {}), GATES.values())}


def limits_for(target: str, recipe: str, of_target: Mapping[str, Table], file: GatesFile | None = None) -> Limits:
    """:func:`default_limits` with what ``file`` says for all targets and for ``target`` on top."""
    settings = file or GatesFile()
    own = settings.targets.get(target, TargetSettings())
    bundle = {**default_limits(recipe, of_target), **settings.limits, **own.limits}
    names = dict.fromkeys((*settings.devices, *own.devices))
    devices = {name: {**settings.devices.get(name, {}), **own.devices.get(name, {})} for name in names}
    return Limits(bundle, devices, frozenset(own.devices))
