"""Damage to one layer of a model file, in place: what a converter or a runtime could get wrong."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from executorch.exir._serialize._program import deserialize_pte_binary, serialize_pte_binary
from numpy.typing import NDArray
from onnx import numpy_helper

from targets.xnnpack import graph as xnngraph
from targets.xnnpack.contents import graph as decompiled
from tests.targets.coreml.mil import faults as packages

Array = NDArray[Any]

WEIGHT_FAULTS: dict[str, Callable[[Array], Array]] = {
    "negated weight": lambda weight: -weight,
    "transposed weight": lambda weight: np.ascontiguousarray(weight.swapaxes(0, 1)),
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


def plant_mlpackage(path: Path, index: int, fault: str) -> None:
    """Damage layer ``index`` of a ``.mlpackage``; the ``zero point`` is that of its input."""
    operations = packages.block(packages.read(path)).operations
    layer = [operation for operation in operations if operation.type in ("conv", "linear", "matmul")][index]
    if fault == "transposed weight":
        packages.transpose_weight(path, layer.outputs[0].name)
    elif fault == "dropped bias":
        packages.drop_bias(path, layer.outputs[0].name)
    else:
        assert fault == "zero point"
        packages.shift_zero_point(path, packages.bound(layer, "x"), ZERO_POINT_SHIFT)


def plant_pte(path: Path, index: int, fault: str) -> None:
    """Damage layer ``index`` of a ``.pte``; ``scale`` and ``zero point`` are those of its output."""
    file = deserialize_pte_binary(path.read_bytes())
    (delegate,) = file.program.execution_plan[0].delegates
    blob = file.program.backend_delegate_data[delegate.processed.index]
    graph = decompiled(bytes(blob.data))
    kinds = ("XNNConv2d", "XNNFullyConnected", "XNNBatchMatrixMultiply")
    layer = [node["xnode_union"] for node in graph["xnodes"] if node["xnode_union_type"] in kinds][index]
    if fault in (*WEIGHT_FAULTS, "dropped bias"):
        value = layer["bias_id" if fault == "dropped bias" else "filter_id"]
        _replace_constant(file, graph, value, WEIGHT_FAULTS.get(fault, np.zeros_like))
    else:
        blob.data = _with_output_parameters(bytes(blob.data), layer["output_id"], fault)
    path.write_bytes(bytes(serialize_pte_binary(file, extract_delegate_segments=True)))


def _replace_constant(file: Any, graph: Any, value: int, change: Callable[[Array], Array]) -> None:
    union = [entry["xvalue_union"] for entry in graph["xvalues"]]
    (tensor,) = [t for t in (u.get("tensor_value", u) for u in union) if t["id_out"] == value]
    key = graph["constant_data"][tensor["constant_buffer_idx"]]["named_key"]
    number = file.named_data.pte_data[key].buffer_index
    dtype = np.int8 if tensor["datatype"] == "xnn_datatype_qcint8" else np.int32
    size = int(np.prod(tensor["dims"])) * dtype().itemsize
    buffer = file.named_data.buffers[number]
    old = np.frombuffer(buffer[:size], dtype).reshape(tensor["dims"])
    file.named_data.buffers[number] = change(old).tobytes() + bytes(buffer[size:])


def _with_output_parameters(payload: bytes, value: int, fault: str) -> bytes:
    flatbuffer, constants = xnngraph.split_payload(payload)
    data = bytearray(flatbuffer)
    (table,) = [table for number, table in _parameters(data) if number == value]
    if fault == "scale":
        place = xnngraph._place(data, table, 0)
        struct.pack_into("<f", data, place, struct.unpack_from("<f", data, place)[0] * SCALE_FACTOR)
    else:
        place = xnngraph._place(data, table, 1)
        struct.pack_into("<i", data, place, struct.unpack_from("<i", data, place)[0] + ZERO_POINT_SHIFT)
    return xnngraph.join_payload(bytes(data), constants)


def _parameters(data: bytearray) -> Iterator[tuple[int, int]]:
    """(id of a quantized value, place of its PerTensorQuant)."""
    vector = xnngraph._target(data, xnngraph._place(data, xnngraph._target(data, 0), xnngraph._GRAPH_VALUES))
    for index in range(xnngraph._u32(data, vector)):
        entry = xnngraph._target(data, vector + 4 + 4 * index)
        if data[xnngraph._place(data, entry, xnngraph._UNION_TYPE)] == xnngraph._QUANTIZED_TENSOR:
            quantized = xnngraph._target(data, xnngraph._place(data, entry, xnngraph._UNION))
            tensor = xnngraph._target(data, xnngraph._place(data, quantized, xnngraph._TENSOR))
            parameters = xnngraph._target(data, xnngraph._place(data, quantized, xnngraph._QUANT))
            yield xnngraph._u32(data, xnngraph._field(data, tensor, xnngraph._ID)), parameters


PLANTS: dict[str, Callable[[Path, int, str], None]] = {
    "executorch": plant_pte,
    "coreml": plant_mlpackage,
    "onnx": plant_onnx,
}
