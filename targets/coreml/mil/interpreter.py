"""Computes a program in torch, operator by operator.

Source of the semantics: the MIL operator reference, which the files of the operators cite in detail. Float16 is
emulated: every tensor is kept in float32, an operator computes and accumulates in float32, and its result is rounded to
float16 where the precision requires it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from levit_edge.errors import InputError
from levit_edge.wording import first_line
from targets.coreml.mil.catalogue import OPERATORS
from targets.coreml.mil.operator import Result
from targets.coreml.mil.records import FLOATS, Operation, Precision, Source, Value

_WHOLE_IN_FLOAT32 = ("int8", "uint8")


def to_half(x: Tensor) -> Tensor:
    """float32 rounded to the nearest float16 number (ties to even, overflow to infinity), kept as float32."""
    return x.to(torch.float16).to(torch.float32)


def is_half(dtype: str, precision: Precision) -> bool:
    """True when tensors of this MIL type hold only float16 numbers."""
    if precision == "declared":
        return dtype == "fp16"
    return precision == "float16" and dtype in FLOATS


@dataclass(frozen=True)
class Step:
    """One operator, ready to run.

    ``fixed`` holds the arguments that depend on no image. ``reads`` holds the others: names of tensors, or constants
    among them; a ``variadic`` operator gets all of them as one tuple. ``rounds`` says which results are rounded to
    float16. ``frees`` are the tensors that no later step reads.
    """

    operation: Operation
    compute: Callable[..., Result]
    fixed: Mapping[str, Any]
    reads: Mapping[str, tuple[str | Tensor, ...]]
    variadic: bool
    rounds: tuple[bool, ...]
    frees: tuple[str, ...] = ()

    def run(self, tensors: dict[str, Tensor]) -> None:
        """Add the results to ``tensors``."""
        arguments = dict(self.fixed)
        for argument, read in self.reads.items():
            found = tuple(tensors[item] if isinstance(item, str) else item for item in read)
            arguments[argument] = found if self.variadic else found[0]
        result = self.compute(**arguments)
        results = result if isinstance(result, tuple) else (result,)
        for value, computed, rounded in zip(self.operation.outputs, results, self.rounds, strict=True):
            tensors[value.name] = to_half(computed) if rounded else computed


@dataclass(frozen=True)
class Plan:
    """A program in one precision: the ``steps`` that depend on the image, and the results of all others."""

    source: Source
    constants: Mapping[str, Tensor]
    steps: tuple[Step, ...]
    rounds_image: bool

    def run(self, image: Tensor, wanted: Collection[str] = ()) -> dict[str, Tensor]:
        """The output, and the ``wanted`` tensors, for one image float32 [1, C, H, W]."""
        kept = {*wanted, self.source.output.name}
        tensors = {self.source.input.name: to_half(image) if self.rounds_image else image}
        for step in self.steps:
            step.run(tensors)
            for name in step.frees:
                if name not in kept:
                    del tensors[name]
        return {name: tensors[name] if name in tensors else self.constants[name] for name in kept}

    def check(self) -> None:
        """Run an image of zeros; InputError where an operator fails, or gives another shape or type than declared."""
        tensors = {self.source.input.name: torch.zeros(self.source.input.shape)}
        for step in self.steps:
            _run_checked(self.source, step, tensors)
            for name in step.frees:
                del tensors[name]


def _run_checked(source: Source, step: Step, tensors: dict[str, Tensor]) -> None:
    operation = step.operation
    where = f"{source.package}: operator {operation.type} (output {', '.join(operation.output_names)})"
    try:
        step.run(tensors)
    except (ValueError, RuntimeError, IndexError, TypeError, KeyError) as error:
        raise InputError(f"{where} cannot be computed: {first_line(error)}") from None
    for value in operation.outputs:
        found = tensors[value.name]
        if tuple(found.shape) != value.shape or found.dtype is not _storage(value.dtype):
            shape = f"{list(value.shape)} of {value.dtype}"
            raise InputError(f"{where} declares {shape} and computes {list(found.shape)} of {found.dtype}")


def _storage(dtype: str) -> torch.dtype:
    if dtype in FLOATS or dtype in _WHOLE_IN_FLOAT32:
        return torch.float32
    return torch.bool if dtype == "bool" else torch.int32


@dataclass
class Planner:
    """Goes through a program once. ``halves`` are the tensors so far that hold only float16 numbers."""

    source: Source
    precision: Precision
    constants: dict[str, Tensor] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    halves: set[str] = field(default_factory=set)

    def plan(self) -> Plan:
        """Compute everything that depends on no image; InputError, naming the operator, where one fails."""
        self._note(self.source.input)
        for name, constant in self.source.constants.items():
            self._note(Value(name, constant.dtype, constant.values.shape))
            values = torch.from_numpy(np.array(constant.values)).to(_storage(constant.dtype))
            self.constants[name] = to_half(values) if is_half(constant.dtype, self.precision) else values
        rounds_image = self.source.input.name in self.halves
        steps = [step for operation in self.source.operations if (step := self._step(operation)).reads]
        computed = {name: value for name, value in self.constants.items() if name not in self.source.constants}
        return Plan(self.source, computed, _with_frees(steps, self.source.output.name), rounds_image)

    def _note(self, value: Value) -> bool:
        """Remember the type of a tensor; True when it holds only float16 numbers."""
        self.dtypes[value.name] = value.dtype
        ends = (self.source.input.name, self.source.output.name)
        stays = value.dtype == "fp32" and value.name in ends  # a float32 input or output is never rounded
        half = is_half(value.dtype, self.precision) and not stays
        if half:
            self.halves.add(value.name)
        return half

    def _step(self, operation: Operation) -> Step:
        """The step of an operator; an operator that reads only constants runs at once."""
        operator = OPERATORS[operation.type]
        fixed: dict[str, Any] = dict(operation.attributes)
        reads: dict[str, tuple[str | Tensor, ...]] = {}
        for argument, names in operation.inputs.items():
            found = tuple(self.constants.get(name, name) for name in names)
            if any(isinstance(item, str) for item in found):
                reads[argument] = found
            else:
                fixed[argument] = found if operator.variadic else found[0]
        floats = [name for name in operation.input_names if self.dtypes[name] in FLOATS]
        exact = operator.exact and all(name in self.halves for name in floats)
        rounds = tuple([self._note(value) and not exact for value in operation.outputs])
        step = Step(operation, operator.compute, fixed, reads, operator.variadic, rounds)
        if not reads:
            _run_checked(self.source, step, self.constants)
        return step


def _with_frees(steps: Iterable[Step], output: str) -> tuple[Step, ...]:
    """The steps, each with the tensors to drop after it: those that no later step reads and that are not the output."""
    needed, backwards = {output}, []
    for step in reversed(list(steps)):
        read = {item for items in step.reads.values() for item in items if isinstance(item, str)}
        backwards.append(replace(step, frees=tuple(sorted({*read, *step.operation.output_names} - needed))))
        needed |= read
    return tuple(reversed(backwards))
