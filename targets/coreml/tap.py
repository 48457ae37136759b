"""The layers of a ``.mlpackage`` as the reference interpreter computes them: Core ML shows nothing but its outputs.

Tensors that the package declares as float16 are rounded to float16, as they are on a device.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from targets.coreml import mil
from targets.coreml.mil.records import INTEGER_RANGES
from targets.program.tap import Kind, Layer, stored
from targets.target import Image

_KINDS: dict[str, Kind] = {"conv": "conv", "linear": "linear", "matmul": "matmul"}


@dataclass(frozen=True)
class _Tapped:
    """One layer of the package: ``output`` is the name of the tensor that holds it."""

    kind: Kind
    name: str
    output: str
    quantization: mil.Quantization | None


def _tapped(operations: Iterable[mil.Operation]) -> list[_Tapped]:
    readers: defaultdict[str, list[mil.Operation]] = defaultdict(list)
    computed = set[str]()
    for operation in operations:
        for name in operation.input_names:
            readers[name].append(operation)
        if not operation.type.startswith("constexpr_"):
            computed.update(operation.output_names)
    found = []
    for operation in operations:
        if operation.type in _KINDS:
            constant = operation.type == "matmul" and not set(operation.inputs["y"]) & computed
            kind: Kind = "linear" if constant else _KINDS[operation.type]
            (name,) = operation.output_names
            users = readers[name]
            if [user.type for user in users] == ["quantize"]:
                found.append(_Tapped(kind, name, users[0].output_names[0], users[0].quantization))
            else:
                found.append(_Tapped(kind, name, name, None))
    return found


def _layer(tapped: _Tapped, traced: mil.Traced) -> Layer:
    quantization = tapped.quantization
    if quantization is None or traced.integers is None:
        return Layer(tapped.kind, tapped.name, traced.values)
    scale, zero_point = float(quantization.scale), int(quantization.zero_point)
    lowest, _ = INTEGER_RANGES[quantization.dtype]
    return stored(tapped.kind, tapped.name, traced.integers, scale, zero_point, lowest)


def tap(path: Path, image: Image) -> tuple[Layer, ...]:
    """Every layer of the ``.mlpackage`` on ``image`` float32 [1, C, H, W], in the order of execution.

    Raises InputError when the package is damaged or has an operator that the interpreter does not know.
    """
    program = mil.load(path)
    layers = _tapped(program.operations)
    traced = program.trace(image, [layer.output for layer in layers])
    return tuple(_layer(layer, traced[layer.output]) for layer in layers)
