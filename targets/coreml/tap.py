"""The layers of a ``.mlpackage`` as the reference interpreter computes them: Core ML exposes only its outputs.

Tensors that the package declares as float16 are rounded to float16, as they are on a device.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from targets.coreml import mil
from targets.coreml.mil.records import INTEGER_RANGES
from targets.program.tap import Kind, Layer, stored
from targets.runner import Image

LAYERS: dict[str, Kind] = {"conv": "conv", "linear": "linear", "matmul": "matmul"}


@dataclass(frozen=True)
class PackageLayer:
    """One layer of a package: ``name`` is the tensor that it computes, ``passed_on`` the one that others read.

    These differ where a quantize operator alone reads the layer: ``passed_on`` is then what it stores, and
    ``quantization`` says how.
    """

    kind: Kind
    name: str
    passed_on: str
    quantization: mil.Quantization | None


def package_layers(operations: Sequence[mil.Operation]) -> list[PackageLayer]:
    """The convolutions, linear layers and matrix products in the order of execution.

    A product with a constant is a linear layer.
    """
    readers: defaultdict[str, list[mil.Operation]] = defaultdict(list)
    computed = set[str]()
    for operation in operations:
        for name in operation.input_names:
            readers[name].append(operation)
        if not operation.type.startswith("constexpr_"):
            computed.update(operation.output_names)
    found = []
    for operation in operations:
        if operation.type in LAYERS:
            constant = operation.type == "matmul" and not set(operation.inputs["y"]) & computed
            kind: Kind = "linear" if constant else LAYERS[operation.type]
            (name,), users = operation.output_names, readers[operation.output_names[0]]
            if [user.type for user in users] == ["quantize"]:
                found.append(PackageLayer(kind, name, users[0].output_names[0], users[0].quantization))
            else:
                found.append(PackageLayer(kind, name, name, None))
    return found


def open_tap(path: Path, precision: mil.Precision = "declared") -> Callable[[Image], tuple[Layer, ...]]:
    """A function that gives every layer of the ``.mlpackage`` on one image, as interpreted in ``precision``.

    Raises InputError when the package is damaged or holds an operator that the interpreter does not know.
    """
    program = mil.load(path)
    layers = package_layers(program.operations)
    names = [layer.passed_on for layer in layers]

    def tap(image: Image) -> tuple[Layer, ...]:
        traced = program.trace(image, names, precision)
        return tuple(_layer(layer, traced[layer.passed_on]) for layer in layers)

    return tap


def tap(path: Path, image: Image) -> tuple[Layer, ...]:
    """Every layer of the ``.mlpackage`` on ``image`` float32 [1, C, H, W], in the order of execution.

    Raises InputError when the package is damaged or holds an operator that the interpreter does not know.
    """
    return open_tap(path)(image)


def _layer(layer: PackageLayer, traced: mil.Traced) -> Layer:
    quantization = layer.quantization
    if quantization is None or traced.integers is None:
        return Layer(layer.kind, layer.name, traced.values)
    scale, zero_point = float(quantization.scale), int(quantization.zero_point)
    lowest, _ = INTEGER_RANGES[quantization.dtype]
    return stored(layer.kind, layer.name, traced.integers, scale, zero_point, lowest)
