"""Every constant of a package is one of its program, and the other way round.

Both sides become facts: hashable descriptions of one constant each, with the name that a message gives it. Equal
constants count once, as the converter merges them, and constants that are all zero do not count, as it drops them. Zero
points are counted from the lowest integer of their type, as it may replace int8 by uint8.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import ExportedProgram

from levit_edge.errors import LevitEdgeError
from targets.coreml.mil.reading import read
from targets.coreml.mil.records import INTEGER_RANGES, Operation, Source

# coremltools turns numbers that float16 would round to zero into its smallest number where the constant is short, and
# into zero where it is long.
_SMALLEST_HALF = np.float16(2**-24)
# The order in which differences are reported. The weights come first: where the integers of a weight are wrong, its
# scales, which are compared together with them, differ as well, and the message should name the weight.
_KINDS = ("weight", "scales of a weight", "scale", "zero point", "float")

Fact = tuple[str, Hashable]  # (kind, content)
NamedFacts = Iterator[tuple[Fact, str]]  # each with its name in a message
Array = NDArray[Any]


def check_constants(package: Path, program: ExportedProgram, half: bool) -> None:
    """LevitEdgeError, naming the first difference, unless package and program have the same constants.

    These are the int8 weights with their scales, the scale and zero point of every quantize and dequantize, and the
    float tensors, in float16 where ``half``. A dequantize must also have the parameters of the quantize that it reads.
    """
    source = read(package)
    found, wanted = dict(_of_package(source)), dict(_of_program(program, half))
    for kind in _KINDS:
        for name in _missing(kind, found, wanted):
            raise LevitEdgeError(f"{package.name}: {name} is not in the program; nothing was written")
        for name in _missing(kind, wanted, found):
            raise LevitEdgeError(f"{package.name}: {name} of the program is not in the file; nothing was written")
    for name in _unpaired(source):
        raise LevitEdgeError(f"{package.name}: {name} is not that of its quantize; nothing was written")


def _missing(kind: str, facts: Mapping[Fact, str], others: Mapping[Fact, str]) -> Iterator[str]:
    """The names of those ``facts`` of a kind that are not among the ``others``."""
    return (name for fact, name in facts.items() if fact[0] == kind and fact not in others)


def _content(values: Array) -> bytes:
    """The bytes of floats; empty where all are zero or, in float16, no larger than its smallest number."""
    if values.dtype == np.float16:
        values = np.where(np.abs(values) <= _SMALLEST_HALF, np.float16(0), values)
    return np.ascontiguousarray(values).tobytes() if values.any() else b""


def _weight(parts: Sequence[Array], axis: int, name: str) -> NamedFacts:
    """``parts``: int8 values of any shape, their scales and zero points [C] along ``axis``."""
    values, scales, zero_points = parts
    content = values.shape, np.ascontiguousarray(values).tobytes()
    yield ("weight", content), f"the int8 weight of {name}"
    shifts = tuple(zero_points.astype(np.int32).ravel().tolist())
    yield ("scales of a weight", (content, _content(scales), shifts, axis)), f"a scale of the weight of {name}"


def _activation(scale: Array, zero_point: int, lowest: int, name: str) -> NamedFacts:
    """``zero_point`` is the stored one, of integers that start at ``lowest``."""
    content, number = _content(scale), f"{float(scale):.6g}"
    yield ("scale", content), f"scale {number} of {name}"
    yield ("zero point", (content, zero_point - lowest)), f"zero point {zero_point} beside scale {number} of {name}"


def _float(values: Array, name: str) -> NamedFacts:
    if content := _content(values):
        yield ("float", content), name


def _of_package(source: Source) -> NamedFacts:
    for operation in source.operations:
        name = _name(operation)
        bound = {
            argument: source.constants[names[0]].values
            for argument, names in operation.inputs.items()
            if names[0] in source.constants
        }
        if operation.type == "constexpr_affine_dequantize":
            parts = [bound[argument] for argument in ("quantized_data", "scale", "zero_point")]
            yield from _weight(parts, operation.attributes["axis"], name)
        elif operation.type in ("quantize", "dequantize"):
            yield from _activation(bound["scale"], *_zero_point(source, operation), name)
        else:
            for argument, values in bound.items():
                if values.ndim and np.issubdtype(values.dtype, np.floating):
                    yield from _float(values, f"the {argument} of {name}")


def _name(operation: Operation) -> str:
    return f"{operation.type} '{', '.join(operation.output_names)}'"


def _zero_point(source: Source, operation: Operation) -> tuple[int, int]:
    """(stored zero point, lowest integer of its type) of a quantize or dequantize."""
    names, read_name = operation.inputs.get("zero_point"), operation.inputs["input"][0]
    dtypes = {value.name: value.dtype for other in source.operations for value in other.outputs}
    integers = operation.attributes.get("output_dtype") or dtypes[read_name]
    return int(source.constants[names[0]].values) if names else 0, INTEGER_RANGES[integers][0]


def _unpaired(source: Source) -> Iterator[str]:
    """What differs between a dequantize and the quantize whose integers reach it, directly or through moves."""
    made = {name: operation.quantization for operation in source.operations for name in operation.output_names}
    for operation in source.operations:
        origin = made.get(operation.inputs["input"][0]) if operation.type == "dequantize" else None
        if origin is None:
            continue
        if int(origin.zero_point) != (stored := _zero_point(source, operation)[0]):
            yield f"zero point {stored} of {_name(operation)}"
        if float(origin.scale) != (scale := float(source.constants[operation.inputs["scale"][0]].values)):
            yield f"scale {scale:.6g} of {_name(operation)}"


def _of_program(program: ExportedProgram, half: bool) -> NamedFacts:
    import torchao.quantization.pt2e  # noqa: F401  # registers the operators

    operators = torch.ops.quantized_decomposed
    per_tensor = (operators.quantize_per_tensor.default, operators.dequantize_per_tensor.default)
    tensors, scales = _tensors(program, half), set[str]()
    for node in program.graph.nodes:
        if node.target == operators.dequantize_per_channel.default:
            names = [argument.name for argument in node.args[:3]]
            scales.add(names[1])
            yield from _weight([tensors[name].values for name in names], node.args[3], tensors[names[0]].name)
        elif node.target in per_tensor:
            _, scale, zero_point, lowest, *_ = node.args
            yield from _activation(_converted(torch.tensor(scale), half), zero_point, lowest, f"'{node.name}'")
    for node_name, tensor in tensors.items():
        if node_name not in scales and np.issubdtype(tensor.values.dtype, np.floating):
            yield from _float(tensor.values, tensor.name)


@dataclass(frozen=True)
class _Tensor:
    """A constant that a program calls ``name``, in the type in which the package stores it."""

    name: str
    values: Array


def _tensors(program: ExportedProgram, half: bool) -> Mapping[str, _Tensor]:
    """Every constant that some operator reads, by the name of its node in the graph."""
    signature, stored = program.graph_signature, {**program.state_dict, **program.constants}
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    read_by = {node.name: node.users for node in program.graph.nodes}
    return {node: _Tensor(name, _converted(stored[name], half)) for node, name in names.items() if read_by[node]}


def _converted(tensor: Tensor, half: bool) -> Array:
    """In float16 where ``half`` and ``tensor`` is a float."""
    values = tensor.detach().to(torch.float16) if half and tensor.is_floating_point() else tensor.detach()
    return np.asarray(values.numpy())
