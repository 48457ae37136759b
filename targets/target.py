"""What every target is to the flow: a record of names, a scheme and a few functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch.export import ExportedProgram

from levit_edge.report.answers import OperatorRow, Placement, Precision
from quantize.scheme import Scheme

Image = NDArray[np.float32]
Logits = NDArray[np.float32]

INPUT_NAME = "image"
OUTPUT_NAME = "logits"


class Runner(Protocol):
    """A loaded model. float32 [1, C, H, W] -> float32 [1, classes].

    ``runtime`` names what computes; ``executed`` is False when that is not the runtime of the target.
    """

    runtime: str
    executed: bool

    def __call__(self, image: Image) -> Logits: ...


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
    def fallback_ops(self) -> int:
        """Number of operators outside the delegate or the fused kernels."""
        return sum(row.count for row in self.operators if row.placement == "fallback")


def operator_rows(operators: Iterable[tuple[str, Precision, Placement]]) -> tuple[OperatorRow, ...]:
    """The operators counted by kind, in alphabetical order."""
    counts = Counter(operators)
    return tuple(
        OperatorRow(name=name, precision=precision, placement=placement, count=count)
        for (name, precision, placement), count in sorted(counts.items())
    )


@dataclass(frozen=True)
class Target:
    """One row of the registry.

    ``lower(program, path, half)`` writes the model file (``half``: float operators compute in float16); its bytes
    depend on nothing but its arguments. ``load(path, threads)`` gives a runner and raises MissingComponentError where
    a package is absent. ``contents(path)`` reads the model file back. ``packages`` are the distributions that do it.
    ``verify(path, program, half, images)``, where the file can be read that closely, raises LevitEdgeError unless it
    holds the constants of the program and computes its layers; ``images`` are float32 [B, C, H, W].
    """

    name: str
    model_file: str
    reference_file: str
    scheme: Scheme
    lower: Callable[[ExportedProgram, Path, bool], None]
    load: Callable[[Path, int], Runner]
    contents: Callable[[Path], Contents]
    packages: tuple[str, ...]
    options: dict[str, str]
    verify: Callable[[Path, ExportedProgram, bool, Image], None] | None = None
    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def versions(self) -> dict[str, str]:
        """Installed versions of ``packages`` and torch."""
        return {name: metadata.version(name) for name in ("torch", "torchao", *self.packages)}
