"""A target as the flow sees it: one frozen record, which imports nothing heavy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from quantize.scheme import Scheme

if TYPE_CHECKING:  # they take time to import, and the help and much else that reads the records do without
    from torch.export import ExportedProgram

    from levit_edge.metrics.program_match import ProgramMatch
    from levit_edge.report.answers import OperatorRow, Placement, Precision
    from targets.program.tap import Layer
    from targets.runner import Image, Runner

_SYSTEM_NAMES = {"Darwin": "macOS"}  # where people say something else than platform.system() does

INPUT_NAME = "image"
OUTPUT_NAME = "logits"


@dataclass(frozen=True)
class Contents:
    """What a model file holds, read from disk. ``delegates`` is None where the runtime has no such thing."""

    delegates: int | None
    operators: tuple[OperatorRow, ...]
    notes: tuple[str, ...] = ()

    def count(self, precision: Precision) -> int:
        """Number of operators of ``precision``, wherever they run."""
        return sum(row.count for row in self.operators if row.precision == precision)

    @property
    def fallback_ops(self) -> int | None:
        """Number of operators outside every delegate; None where the runtime has no delegates."""
        if self.delegates is None:
            return None
        return sum(row.count for row in self.operators if row.placement == "fallback")


def operator_rows(operators: Iterable[tuple[str, Precision, Placement]]) -> tuple[OperatorRow, ...]:
    """The operators counted by kind, in alphabetical order."""
    from levit_edge.report.answers import OperatorRow

    counts = Counter(operators)
    return tuple(
        OperatorRow(name=name, precision=precision, placement=placement, count=count)
        for (name, precision, placement), count in sorted(counts.items())
    )


@dataclass(frozen=True)
class Backend:
    """The functions of a target. They need torch and the target's own packages.

    ``lower(program, path, half)`` writes the model file (``half``: float operators compute in float16); its bytes
    depend on nothing but its arguments. ``load(path, threads)`` gives a runner, and ``contents(path)`` reads the model
    file back; both raise InputError for a damaged file, and ``load`` raises MissingComponentError where the machine
    lacks a part of the runtime.

    ``tap(path, image)`` gives every layer of the file as its runtime computes it on one image, float32 [1, C, H, W];
    None where the file cannot be read that closely. ``load_for_tap(path, threads)`` gives the runner whose layers
    ``tap`` shows; None where it is that of ``load``.

    ``verify(path, program, half, images)`` compares the constants and the layers of the file with those of the program;
    ``images`` are float32 [B, C, H, W]. None where only the logits can be compared. ``judge(path, program, half,
    image)`` is its judgement on each layer for one image: why it departs from the program, empty where it does not.
    None where the layers of ``tap`` can be judged as they are.
    """

    lower: Callable[[ExportedProgram, Path, bool], None]
    load: Callable[[Path, int], Runner]
    contents: Callable[[Path], Contents]
    tap: Callable[[Path, Image], tuple[Layer, ...]] | None = None
    load_for_tap: Callable[[Path, int], Runner] | None = None
    judge: Callable[[Path, ExportedProgram, bool, Image], tuple[str, ...]] | None = None
    verify: Callable[[Path, ExportedProgram, bool, Image], ProgramMatch | None] | None = None


@dataclass(frozen=True)
class Target:
    """One row of the registry: everything that belongs to this target and to no other.

    ``runtime`` is what runs its files, as devices call it (``onnxruntime``). ``builds_with`` and ``runs_with`` are the
    distributions that write and that run the model file. ``executes_on`` names the operating systems
    (``platform.system()``) whose machines execute it, empty for all, and ``elsewhere`` says what happens on the others.
    ``float16``: it can compute float operators in float16, which the 16-bit recipes need. ``limits`` are default limits
    by recipe and name of the limit, where they depend on the target. ``options`` are facts for the manifest.
    ``load_backend`` imports the functions.
    """

    name: str
    model_file: str
    reference_file: str
    scheme: Scheme
    runtime: str
    builds_with: tuple[str, ...]
    runs_with: tuple[str, ...]
    load_backend: Callable[[], Backend]
    executes_on: tuple[str, ...] = ()
    elsewhere: str = ""
    float16: bool = False
    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def backend(self) -> Backend:
        """The functions, which are imported now."""
        return self.load_backend()

    @property
    def executing_systems(self) -> str:
        """Where it executes, as people call it: ``macOS``; empty for everywhere."""
        return " or ".join(_SYSTEM_NAMES.get(system, system) for system in self.executes_on)

    def versions(self) -> dict[str, str]:
        """Installed versions of torch, torchao and all that builds and runs the target."""
        names = dict.fromkeys(("torch", "torchao", *self.builds_with, *self.runs_with))
        return {name: metadata.version(name) for name in names}
