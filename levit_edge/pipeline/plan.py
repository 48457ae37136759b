"""What every step of one build works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from levit_edge.devices import LOCAL, Device, open_device, runtimes
from levit_edge.errors import InputError
from levit_edge.gates.gates_file import read_gates
from levit_edge.gates.resolve_limits import Limits, limits_for
from levit_edge.pipeline.images import Images
from levit_edge.pipeline.load import Subject
from levit_edge.pipeline.options import BuildOptions
from levit_edge.progress import Progress
from levit_edge.report.policy import UndecidedPolicy
from quantize.recipes import Recipe, load_recipe
from targets.registry import TARGETS, target
from targets.target import Target


@dataclass(frozen=True)
class Plan:
    """What a build will do, checked before anything heavy is loaded.

    ``limits`` are those of each target's gates, by its name; ``undecided`` says whether an undecided gate fails the
    build. ``device`` runs the bundles besides this machine, None where nobody asked for one.
    """

    options: BuildOptions
    recipe: Recipe
    targets: tuple[Target, ...]
    limits: Mapping[str, Limits]
    undecided: UndecidedPolicy
    device: Device | None


@dataclass(frozen=True)
class Job:
    """A plan with its model and images. Each bundle is a folder in ``staging``, a hidden folder of the output."""

    plan: Plan
    subject: Subject
    images: Images
    staging: Path
    progress: Progress


def make_plan(options: BuildOptions) -> Plan:
    """Everything that can be refused at once, is: InputError or MissingComponentError says why."""
    device = None if options.device == LOCAL else open_device(options.device)
    if device is not None:
        runtimes(device, options.targets)
        device.check()
    recipe = load_recipe(options.recipe)
    targets = tuple(target(name) for name in options.targets)
    for chosen in targets:
        if recipe.needs_float16 and not chosen.float16:
            able = [name for name, row in TARGETS.items() if row.float16]
            raise InputError(f"recipe {recipe.name} is not for {chosen.name}; it is for: {', '.join(able)}")
        recipe.scheme(chosen.scheme)
    file = read_gates(options.gates, TARGETS, options.undecided)
    limits = {chosen.name: limits_for(chosen.name, recipe.base, chosen.limits, file) for chosen in targets}
    limits = {name: limit.held_to(options.min_sqnr, options.max_drop) for name, limit in limits.items()}
    return Plan(options, recipe, targets, limits, file.undecided, device)
