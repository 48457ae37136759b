"""Faults planted in a saved ``.mlpackage``, as a converter or a disk could make them. Each edits it in place."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from coremltools.proto import Model_pb2
from numpy.typing import NDArray

_ENTRY = struct.Struct("<IIQQ")  # of the weight file: mark, type, bytes, offset of the data
_MARK = 0xDEADBEEF


def specification(package: Path) -> Path:
    """The file that holds the program."""
    return package / "Data" / "com.apple.CoreML" / "model.mlmodel"


def weight_file(package: Path) -> Path:
    """The file that holds the constants."""
    return package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"


@contextmanager
def edited(package: Path) -> Iterator[Any]:
    """The block of the program, whose changes are written back: ``.operations`` and ``.outputs``."""
    model = read(package)
    yield block(model)
    specification(package).write_bytes(model.SerializeToString(deterministic=True))


def read(package: Path) -> Any:
    """The whole model as protobuf."""
    model = Model_pb2.Model()
    model.ParseFromString(specification(package).read_bytes())
    return model


def block(model: Any) -> Any:
    """The one block of the program of a model."""
    function = model.mlProgram.functions["main"]
    return function.block_specializations[function.opset]


def outputs(package: Path, kind: str) -> list[str]:
    """The names of what the operators of a kind write, in the order of the program."""
    return [operation.outputs[0].name for operation in block(read(package)).operations if operation.type == kind]


def find(operations: Any, name: str) -> Any:
    """The operator that writes ``name``."""
    return next(op for op in operations if any(output.name == name for output in op.outputs))


def bound(operation: Any, argument: str) -> str:
    """The name of the tensor that is bound to an argument."""
    name: str = operation.inputs[argument].arguments[0].name
    return name


def zero_points(package: Path) -> list[str]:
    """What the ``dequantize`` operators with a zero point write; where it is 0 they may have none."""
    return [
        operation.outputs[0].name
        for operation in block(read(package)).operations
        if operation.type == "dequantize" and "zero_point" in operation.inputs
    ]


def shift_zero_point(package: Path, dequantized: str, by: int) -> None:
    """Move the zero point of the ``dequantize`` that writes a tensor; the ``quantize`` before it stays as it was."""
    with edited(package) as program:
        operation = find(program.operations, dequantized)
        constant = find(program.operations, bound(operation, "zero_point"))
        own = type(constant)()
        own.CopyFrom(constant)  # others may read the same constant
        own.outputs[0].name = f"{dequantized}_shifted"
        own.attributes["name"].immediateValue.tensor.strings.values[0] = f"{dequantized}_shifted"
        stored = own.attributes["val"].immediateValue.tensor.bytes
        stored.values = bytes([(stored.values[0] + by) % 256])
        program.operations.insert(0, own)
        find(program.operations, dequantized).inputs["zero_point"].arguments[0].name = f"{dequantized}_shifted"


def drop_bias(package: Path, layer: str) -> None:
    """Leave out the bias of the layer that writes ``layer``: the operator reference then says zeros."""
    with edited(package) as program:
        del find(program.operations, layer).inputs["bias"]


def square_layers(package: Path) -> list[str]:
    """The linear layers whose weight is as wide as it is high, by what they write."""
    operations = block(read(package)).operations
    found = []
    for operation in operations:
        if operation.type == "linear":
            rows, columns = _shape(find(operations, bound(operation, "weight")).outputs[0])
            found += [operation.outputs[0].name] if rows == columns else []
    return found


def transpose_weight(package: Path, layer: str) -> None:
    """Swap rows and columns of the stored weight [C, C] of a linear layer."""
    change_weight(package, layer, np.transpose)


def change_weight(package: Path, layer: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    """Write ``change`` of the stored weight of a layer, int8 or float16 or float32, into the weight file."""
    operations = block(read(package)).operations
    constant = find(operations, bound(find(operations, layer), "weight"))
    value = constant.attributes["quantized_data" if "quantized_data" in constant.attributes else "val"]
    shape = _shape(constant.outputs[0])
    content = bytearray(weight_file(package).read_bytes())
    mark, _, size, start = _ENTRY.unpack_from(content, value.blobFileValue.offset)
    dtype = {1: "int8", 2: "float16", 4: "float32"}[size // int(np.prod(shape))]
    assert mark == _MARK
    stored = np.frombuffer(bytes(content[start : start + size]), dtype=dtype).reshape(shape)
    content[start : start + size] = np.ascontiguousarray(change(stored)).tobytes()
    weight_file(package).write_bytes(content)


def _shape(output: Any) -> list[int]:
    return [dimension.constant.size for dimension in output.type.tensorType.dimensions]
