"""Does a saved ``.mlpackage`` hold the constants of its program, and does each of its layers compute what it should?

Scales, zero points, weights and biases are compared one by one, so that none is lost or changed unseen. What they are
wired to shows in the layers: the reference interpreter computes the package without rounding to float16, and torch
computes each layer of the program, with its constants as the package stores them, from the values that the package
gave the layers before it. So nothing is inherited, and the two agree to the last bits of float32, but for a few values
where a quotient falls on a tie.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx
from torch.export import ExportedProgram

from levit_edge.errors import LevitEdgeError
from quantize.roles import LAYERS, aten
from targets.coreml import mil
from targets.coreml.mil.reading import read
from targets.coreml.mil.records import INTEGER_RANGES, Operation, Source
from targets.coreml.mil.stored import half_constants
from targets.target import Image

# Healthy layers are float32 apart, and without error in int8 but for ties; a zero point that is 1 off, a dropped bias
# or a transposed weight leaves far less than this in a layer that reads it. The tests plant each of them.
LAYER_DB = 100.0
LAYER_IMAGES = 2

# Short constants that float16 would round to zero become its smallest number in coremltools, long ones become zero.
_SMALLEST_HALF = np.float16(2**-24)
_CONSTEXPR = "constexpr_affine_dequantize"
_LAYER_TYPES = ("conv", "linear", "matmul")
_LAYER_TARGETS = (*LAYERS, aten.bmm.default)
# In this order: the scales of a weight that is another are not worth a word.
_KINDS = ("weight", "scales of a weight", "scale", "zero point", "float")
_NOT_WANTED, _NOT_FOUND = "is not in the program", "of the program is not in the file"

Fact = tuple[str, Hashable]  # (kind, content)
Named = Iterator[tuple[Fact, str]]  # with what a message calls it
Array = NDArray[Any]


def verify(package: Path, program: ExportedProgram, half: bool, images: Image) -> None:
    """LevitEdgeError, naming the first fault, unless ``package`` is ``program`` in all constants and layers.

    ``half``: the package was converted to float16. ``images`` float32 [B, C, H, W], of which a few are enough.
    """
    check_constants(package, program, half)
    for layer, found_db in layers_db(package, program, half, images[:LAYER_IMAGES]).items():
        if found_db < LAYER_DB:
            raise LevitEdgeError(
                f"{package.name}: layer '{layer}' does not compute what the program does "
                f"({found_db:.1f} dB, at least {LAYER_DB:.1f} dB expected); nothing was written"
            )


def check_constants(package: Path, program: ExportedProgram, half: bool) -> None:
    """LevitEdgeError, naming the first that is not, unless package and program have the same constants.

    These are the int8 weights with their scales, the scale and zero point of every quantize and dequantize, and the
    float tensors, in float16 where ``half``. Equal ones count once, as the converter merges them; those that are all
    zero do not count. Zero points are counted from the lowest integer: the converter may take int8 for uint8.
    """
    source = read(package)
    found, wanted = dict(_of_package(source)), dict(_of_program(program, half))
    for kind in _KINDS:
        for one, other, ending in ((found, wanted, _NOT_WANTED), (wanted, found, _NOT_FOUND)):
            for fact, name in one.items():
                if fact[0] == kind and fact not in other:
                    raise LevitEdgeError(f"{package.name}: {name} {ending}; nothing was written")
    for name in _unpaired(source):
        raise LevitEdgeError(f"{package.name}: {name} is not that of its quantize; nothing was written")


def _content(values: Array) -> bytes:
    """The bytes of floats; empty where all are zero, or, as float16, no more than its smallest number."""
    if values.dtype == np.float16:
        values = np.where(np.abs(values) <= _SMALLEST_HALF, np.float16(0), values)
    return np.ascontiguousarray(values).tobytes() if values.any() else b""


def _weight(parts: Sequence[Array], axis: int, name: str) -> Named:
    """``parts``: int8 values of any shape, their scales and zero points [C] along ``axis``."""
    values, scales, zero_points = parts
    content = values.shape, np.ascontiguousarray(values).tobytes()
    yield ("weight", content), f"the int8 weight of {name}"
    shifts = tuple(zero_points.astype(np.int32).ravel().tolist())
    yield ("scales of a weight", (content, _content(scales), shifts, axis)), f"a scale of the weight of {name}"


def _activation(scale: Array, zero_point: int, lowest: int, name: str) -> Named:
    """``zero_point`` as it is stored, in integers that start at ``lowest``."""
    content, number = _content(scale), f"{float(scale):.6g}"
    yield ("scale", content), f"scale {number} of {name}"
    yield ("zero point", (content, zero_point - lowest)), f"zero point {zero_point} beside scale {number} of {name}"


def _float(values: Array, name: str) -> Named:
    if content := _content(values):
        yield ("float", content), name


def _of_package(source: Source) -> Named:
    for operation in source.operations:
        name = _called(operation)
        bound = {
            argument: source.constants[names[0]].values
            for argument, names in operation.inputs.items()
            if names[0] in source.constants
        }
        if operation.type == _CONSTEXPR:
            parts = [bound[argument] for argument in ("quantized_data", "scale", "zero_point")]
            yield from _weight(parts, operation.attributes["axis"], name)
        elif operation.type in ("quantize", "dequantize"):
            yield from _activation(bound["scale"], *_zero_point(source, operation), name)
        else:
            for argument, values in bound.items():
                if values.ndim and np.issubdtype(values.dtype, np.floating):
                    yield from _float(values, f"the {argument} of {name}")


def _called(operation: Operation) -> str:
    return f"{operation.type} '{', '.join(operation.output_names)}'"


def _zero_point(source: Source, operation: Operation) -> tuple[int, int]:
    """(zero point as it is stored, the least of its integers)."""
    names, read_name = operation.inputs.get("zero_point"), operation.inputs["input"][0]
    dtypes = {value.name: value.dtype for other in source.operations for value in other.outputs}
    integers = operation.attributes.get("output_dtype") or dtypes[read_name]
    return int(source.constants[names[0]].values) if names else 0, INTEGER_RANGES[integers][0]


def _unpaired(source: Source) -> Iterator[str]:
    """What differs between a dequantize and the quantize whose integers it reads, through moves or not."""
    made = {name: operation.quantization for operation in source.operations for name in operation.output_names}
    for operation in source.operations:
        origin = made.get(operation.inputs["input"][0]) if operation.type == "dequantize" else None
        if origin is None:
            continue
        if int(origin.zero_point) != (stored := _zero_point(source, operation)[0]):
            yield f"zero point {stored} of {_called(operation)}"
        if float(origin.scale) != (scale := float(source.constants[operation.inputs["scale"][0]].values)):
            yield f"scale {scale:.6g} of {_called(operation)}"


def _of_program(program: ExportedProgram, half: bool) -> Named:
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
            yield from _activation(_stored(torch.tensor(scale), half), zero_point, lowest, f"'{node.name}'")
    for node_name, tensor in tensors.items():
        if node_name not in scales and np.issubdtype(tensor.values.dtype, np.floating):
            yield from _float(tensor.values, tensor.name)


@dataclass(frozen=True)
class _Tensor:
    """What a program has stored as ``name``, in the type in which a package has it."""

    name: str
    values: Array


def _tensors(program: ExportedProgram, half: bool) -> Mapping[str, _Tensor]:
    """Everything stored that is read, by the name of its node in the graph."""
    signature, stored = program.graph_signature, {**program.state_dict, **program.constants}
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    read_by = {node.name: node.users for node in program.graph.nodes}
    return {node: _Tensor(name, _stored(stored[name], half)) for node, name in names.items() if read_by[node]}


def _stored(tensor: Tensor, half: bool) -> Array:
    values = tensor.detach().to(torch.float16) if half and tensor.is_floating_point() else tensor.detach()
    return np.asarray(values.numpy())


@dataclass(frozen=True)
class _Layer:
    """Float32 values of one layer, and what the operators after it make of them: the same, or their nearest integers.

    ``name`` is what the package calls it.
    """

    name: str
    values: NDArray[np.float32]
    passed_on: NDArray[np.float32]


class _Replay(fx.Interpreter):
    """Computes every layer of a program; those after it read what is ``given``. ``values`` are the layers' own."""

    def __init__(self, module: fx.GraphModule, given: Sequence[_Layer]) -> None:
        super().__init__(module)
        self.given, self.values = given, list[NDArray[np.float32]]()

    def run_node(self, n: fx.Node) -> object:
        value = super().run_node(n)
        if n.target not in _LAYER_TARGETS:
            return value
        assert isinstance(value, Tensor)
        self.values.append(value.numpy())
        return torch.from_numpy(self.given[len(self.values) - 1].passed_on)


def layers_db(package: Path, program: ExportedProgram, half: bool, images: Image) -> dict[str, float]:
    """How close each layer of the package is to the program's: the rms of its values over their median error, in dB.

    A tie spoils a few values, or all of a layer in few images, and no more: the median is taken for each image and its
    mirror image, and the best counts. LevitEdgeError where the layers are not the same in number and shape. ``images``
    float32 [B, C, H, W]; the package is interpreted in float32.
    """
    interpreted, module = mil.load(package), half_constants(program) if half else program.module()
    assert isinstance(module, fx.GraphModule)
    best = dict[str, float]()
    for image in (*np.split(images, len(images)), *np.split(images[..., ::-1], len(images))):
        layers = _layers(interpreted, np.ascontiguousarray(image))
        for layer, expected in zip(layers, _replayed(package, module, layers, image), strict=True):
            best[layer.name] = max(best.get(layer.name, -np.inf), _closeness_db(expected, layer.values))
    return best


def _layers(package: mil.Program, image: Image) -> list[_Layer]:
    names = [operation.output_names[0] for operation in package.operations if operation.type in _LAYER_TYPES]
    passed_on = {name: name for name in names}
    for name in names:
        readers = [operation for operation in package.operations if name in operation.input_names]
        if [reader.type for reader in readers] == ["quantize"]:
            passed_on[name] = readers[0].output_names[0]
    traced = package.trace(image, {*names, *passed_on.values()}, "float32")
    return [_Layer(name, traced[name].values, traced[passed_on[name]].values) for name in names]


def _replayed(
    package: Path, module: fx.GraphModule, layers: Sequence[_Layer], image: Image
) -> list[NDArray[np.float32]]:
    """What the program makes of the layers before each layer."""
    count = sum(node.target in _LAYER_TARGETS for node in module.graph.nodes)
    if count != len(layers):
        raise LevitEdgeError(f"{package.name} has {len(layers)} layers, its program {count}; nothing was written")
    replay = _Replay(module, layers)
    with torch.no_grad():
        replay.run(torch.from_numpy(np.ascontiguousarray(image)))
    for layer, expected in zip(layers, replay.values, strict=True):
        if layer.values.shape != expected.shape:
            shapes = f"{list(layer.values.shape)}, in the program {list(expected.shape)}"
            raise LevitEdgeError(f"{package.name}: layer '{layer.name}' is {shapes}; nothing was written")
    return replay.values


def _closeness_db(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Infinite where most values are equal; lowest where they are not finite."""
    error = float(np.median(np.abs(expected.astype(np.float64) - found)))
    signal = float(np.sqrt(np.square(expected.astype(np.float64)).mean()))
    if error == 0:
        return float("inf")
    return float(20 * np.log10(signal / error)) if signal > 0 and np.isfinite(error) else float("-inf")
