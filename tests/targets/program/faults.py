"""Damage to one layer of a model file, in place: what a converter or a runtime could get wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from targets.xnnpack.program_file import operator_name, read_program, schema, tensor_of
from tests.targets.coreml.mil import faults as packages

Array = NDArray[Any]


def _one_channel(weight: Array) -> Array:
    """The largest weight of the first channel, one step off."""
    changed = weight.copy()
    first = changed.reshape(len(weight), -1)[0]
    first[np.argmax(np.abs(first))] -= 1
    return changed


WEIGHT_FAULTS: dict[str, Callable[[Array], Array]] = {
    "negated weight": lambda weight: -weight,
    "transposed weight": lambda weight: np.ascontiguousarray(weight.swapaxes(0, 1)),
    "swapped heads": lambda weight: np.roll(weight, len(weight) // 2, axis=0),  # of two heads
    "one channel": _one_channel,
}
SCALE_FACTOR = 1.5
ZERO_POINT_SHIFT = 7


def plant_onnx(path: Path, index: int, fault: str) -> None:
    """Damage layer ``index`` of an ``.onnx``; ``scale`` and ``zero point`` are those of its QuantizeLinear."""
    model = onnx.load(path)
    layer = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")][index]
    producers = {node.output[0]: node for node in model.graph.node}
    if fault in WEIGHT_FAULTS:
        _replace(model.graph, producers[layer.input[1]], 0, WEIGHT_FAULTS[fault])
    elif fault == "dropped bias":
        _replace(model.graph, producers[layer.input[2]], 0, np.zeros_like)
    else:
        (quantize,) = [node for node in model.graph.node if layer.output[0] in node.input]
        assert quantize.op_type == "QuantizeLinear"
        if fault == "scale":
            _replace(model.graph, quantize, 1, lambda scale: scale * np.float32(SCALE_FACTOR))
        else:
            _replace(model.graph, quantize, 2, lambda zero: zero + zero.dtype.type(ZERO_POINT_SHIFT))
    onnx.save(model, path)


def _replace(graph: Any, node: Any, argument: int, change: Callable[[Array], Array]) -> None:
    """Give ``node`` alone a changed copy of a constant: equal constants are shared between layers."""
    (old,) = [tensor for tensor in graph.initializer if tensor.name == node.input[argument]]
    name = f"{old.name}_of_{node.name}"
    graph.initializer.append(numpy_helper.from_array(change(numpy_helper.to_array(old)), name))
    node.input[argument] = name


def mask_input(path: Path, index: int, mask: Array) -> None:
    """Let layer ``index`` of an ``.onnx`` read its input times ``mask``: a runtime that loses a tile or a token."""
    model = onnx.load(path)
    layer = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")][index]
    model.graph.initializer.append(numpy_helper.from_array(mask.astype(np.float32), "mask"))
    masked = onnx.helper.make_node("Mul", [layer.input[0], "mask"], ["masked"])
    layer.input[0] = "masked"
    model.graph.node.insert(list(model.graph.node).index(layer), masked)
    onnx.save(model, path)


def plant_mlpackage(path: Path, index: int, fault: str) -> None:
    """Damage layer ``index`` of a ``.mlpackage``; the ``zero point`` is that of its input."""
    operations = packages.block(packages.read(path)).operations
    layer = [operation for operation in operations if operation.type in ("conv", "linear", "matmul")][index]
    if fault in WEIGHT_FAULTS:
        packages.change_weight(path, layer.outputs[0].name, WEIGHT_FAULTS[fault])
    elif fault == "dropped bias":
        packages.drop_bias(path, layer.outputs[0].name)
    else:
        assert fault == "zero point"
        packages.shift_zero_point(path, packages.bound(layer, "x"), ZERO_POINT_SHIFT)


def plant_pte(path: Path, index: int, fault: str) -> None:
    """Damage layer ``index`` of a ``.pte``; ``scale`` and ``zero point`` are those of its output."""
    program = read_program(path)
    (payload,) = program.payloads
    values = {tensor_of(value).idOut: value for value in payload.graph.xvalues}
    kinds = ("XNNConv2d", "XNNFullyConnected", "XNNBatchMatrixMultiply")
    layer = [node.xnodeUnion for node in payload.graph.xnodes if operator_name(node) in kinds][index]
    parameters = values[layer.outputId].xvalueUnion
    if fault in (*WEIGHT_FAULTS, "dropped bias"):
        changed = tensor_of(values[layer.biasId if fault == "dropped bias" else layer.filterId])
        key = payload.graph.constantData[changed.constantBufferIdx].namedKey.decode()
        _replace_constant(program.file, key, changed, WEIGHT_FAULTS.get(fault, np.zeros_like))
    elif fault == "scale":
        parameters.quantParams.scale *= SCALE_FACTOR
    else:
        parameters.quantParams.zeroPoint += ZERO_POINT_SHIFT
    program.write(path)


def _replace_constant(file: Any, key: str, tensor: Any, change: Callable[[Array], Array]) -> None:
    number = file.named_data.pte_data[key].buffer_index
    dtype = np.int8 if tensor.datatype == schema().XNNDatatype.xnn_datatype_qcint8 else np.int32
    size = int(np.prod(tensor.dims)) * dtype().itemsize
    buffer = file.named_data.buffers[number]
    old = np.frombuffer(buffer[:size], dtype).reshape(tensor.dims)
    file.named_data.buffers[number] = change(old).tobytes() + bytes(buffer[size:])


PLANTS: dict[str, Callable[[Path, int, str], None]] = {
    "executorch": plant_pte,
    "coreml": plant_mlpackage,
    "onnx": plant_onnx,
}
