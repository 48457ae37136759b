"""The constants of a model file and those of its program, compared layer by layer.

Both become graphs of steps, whose constants are facts: descriptions that are equal where the constants are. Converters
merge, duplicate and drop operators, but not what a layer computes from. So each layer has as many facts as there are
different ones between it and the layers before it: its weight and bias, what quantizes its input, and whatever is added
or multiplied on the way. These sets must be equal, layer by layer, and so must be those between the last layer and the
logits.

What a converter changes without changing the function is brought to one form on both sides: zero points count from
the lowest integer of their type, since int8 and uint8 replace each other; weights have the layout of torch; equal
constants of a layer count once, since they are merged; and floats that are all zero do not count, since a bias of zeros
is dropped.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from levit_edge.wording import listed

# The order in which the differences of one layer are named.
FactKind = Literal["integers", "scales", "quantization", "floats"]
KINDS: tuple[FactKind, ...] = ("integers", "scales", "quantization", "floats")

Array = NDArray[Any]


@dataclass(frozen=True)
class Fact:
    """One constant: two facts are equal where their kinds and contents are. ``text`` describes it in a message."""

    kind: FactKind
    content: Hashable
    text: str = field(compare=False)


@dataclass(frozen=True)
class Step:
    """One operator or constant of a graph: the tensors that it reads and writes, by name, and its facts."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    facts: tuple[Fact, ...] = ()
    is_layer: bool = False


@dataclass(frozen=True)
class Graph:
    """Steps in the order of execution, and the tensor that holds the logits."""

    steps: tuple[Step, ...]
    output: str


def integers(values: Array, scales: Array, zero_points: Array, axis: int) -> tuple[Fact, ...]:
    """The facts of a tensor of integers in torch's layout, with ``scales`` and ``zero_points`` [C] along ``axis``."""
    shape, name = values.shape, f"{values.dtype} tensor {list(values.shape)}"
    stored = np.ascontiguousarray(scales, dtype=np.float32).tobytes()
    shifts = tuple(np.asarray(zero_points, dtype=np.int64).ravel().tolist())
    # A scalar scale means the same as a scale for the whole tensor, whatever the axis.
    content = (shape, stored, shifts, axis % values.ndim if scales.size > 1 else 0)
    return (stored_integers(values), Fact("scales", content, f"the scale of {name}"))


def stored_integers(values: Array) -> Fact:
    """The fact of a tensor of integers alone."""
    content = values.shape, str(values.dtype), np.ascontiguousarray(values).tobytes()
    return Fact("integers", content, f"{values.dtype} tensor {list(values.shape)}")


def quantization(scale: float, zero_point: int, lowest: int) -> tuple[Fact, ...]:
    """The fact of a quantize or dequantize whose integers start at ``lowest``; runtimes keep the scale in float32."""
    shifted, exact = zero_point - lowest, float(np.float32(scale))
    return (Fact("quantization", (exact, shifted), f"scale {exact:.6g} with zero point {shifted} (counted from 0)"),)


def floats(values: Array) -> tuple[Fact, ...]:
    """The fact of a float tensor, whose shape does not count; none where all is zero.

    None for a single number either: converters write such numbers of their own, and fold those of the program.
    """
    if values.ndim == 0 or not values.any():
        return ()
    content = np.ascontiguousarray(values, dtype=np.float32).tobytes()
    return (Fact("floats", content, f"float tensor {list(values.shape)}"),)


def departures(found: Graph, program: Graph, names: Sequence[str]) -> tuple[str, ...]:
    """One line for each difference; ``names`` are those of the program's layers. Both have the same number of layers.

    A constant that several layers read is named once, with the first of them.
    """
    lines = dict[tuple[frozenset[Fact], frozenset[Fact]], str]()
    for name, file_facts, program_facts in zip((*names, "the logits"), _sets(found), _sets(program), strict=True):
        for kind in KINDS:
            extra = frozenset(fact for fact in file_facts - program_facts if fact.kind == kind)
            missing = frozenset(fact for fact in program_facts - file_facts if fact.kind == kind)
            if extra or missing:
                lines.setdefault((extra, missing), f"{name}: {_difference(kind, extra, missing)}")
    return tuple(lines.values())


def count(graph: Graph) -> int:
    """How many facts the steps of a graph have that lead to its logits."""
    return sum(len(graph.steps[index].facts) for index in frozenset().union(*_reaching(graph)))


def _difference(kind: FactKind, extra: frozenset[Fact], missing: frozenset[Fact]) -> str:
    if not missing:
        return f"the file has {_texts(extra)}, which is not in the program"
    if not extra:
        return f"{_texts(missing)} of the program is not in the file"
    if kind == "quantization":
        return f"the file has {_texts(extra)}, the program {_texts(missing)}"
    return f"{_texts(extra)} in the file differs from the program's"


def _texts(facts: frozenset[Fact]) -> str:
    return listed(sorted({fact.text for fact in facts}))


def _sets(graph: Graph) -> list[frozenset[Fact]]:
    """The facts between each layer and those before it, and then those between the last ones and the logits."""
    return [frozenset(fact for index in reaching for fact in graph.steps[index].facts) for reaching in _reaching(graph)]


def _reaching(graph: Graph) -> list[frozenset[int]]:
    """For each layer, and then for the logits: the steps on the ways to it that start at other layers."""
    behind = dict[str, frozenset[int]]()  # by tensor: the steps between the layers before it and the tensor
    layers = []
    for index, step in enumerate(graph.steps):
        before = frozenset({index}).union(*(behind.get(name, frozenset()) for name in step.reads))
        if step.is_layer:
            layers.append(before)
            before = frozenset()
        behind.update(dict.fromkeys(step.writes, before))
    return [*layers, behind[graph.output]]
