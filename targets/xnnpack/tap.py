"""The layers of a ``.pte`` as ExecuTorch's XNNPACK delegate computes them: a copy of the program with more outputs.

The whole model is one delegate, whose inside no profiler of the runtime shows. In the copy the output of each layer is
an output of the delegate and of the method; operators, constants and scales are those of the file.
"""

from __future__ import annotations

import math
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from levit_edge.errors import InputError
from targets.program.tap import Kind, Layer, stored
from targets.target import Image
from targets.xnnpack import contents, run
from targets.xnnpack.graph import Value, join_payload, read_values, split_payload, with_outputs

_KINDS: dict[str, Kind] = {
    "XNNConv2d": "conv",
    "XNNDepthwiseConv2d": "conv",
    "XNNFullyConnected": "linear",
    "XNNBatchMatrixMultiply": "matmul",
}
_FLOAT32, _QINT8 = 1, 3  # datatypes of the graph's schema
_ALIGNMENT = 16


def _read(path: Path) -> tuple[Any, Any, Any]:
    """(file, plan, data of its only delegate) of a program."""
    from executorch.exir._serialize._program import deserialize_pte_binary

    try:
        file = deserialize_pte_binary(path.read_bytes())
    except (OSError, ValueError, AssertionError, RuntimeError, struct.error) as error:
        raise InputError(f"{path} is not an ExecuTorch program: {error}") from None
    plan = file.program.execution_plan[0]
    if len(plan.delegates) != 1 or len(plan.chains[0].instructions) != 1:
        raise InputError(f"{path} is not one XNNPACK delegate: it has {len(plan.delegates)}; build it again")
    return file, plan, file.program.backend_delegate_data[plan.delegates[0].processed.index]


def _layers(graph: dict[str, Any]) -> list[tuple[Kind, int]]:
    """Kind and id of the output of each layer, in the order of execution."""
    return [
        (_KINDS[node["xnode_union_type"]], node["xnode_union"]["output_id"])
        for node in graph["xnodes"]
        if node["xnode_union_type"] in _KINDS
    ]


def _tensor(value: Value, offset: int) -> Any:
    """The value as a tensor of the plan, at ``offset`` in its planned memory."""
    from executorch.exir import schema
    from executorch.exir.scalar_type import ScalarType

    return schema.Tensor(
        scalar_type=ScalarType.FLOAT if value.datatype == _FLOAT32 else ScalarType.CHAR,
        storage_offset=0,
        sizes=list(value.shape),
        dim_order=list(range(len(value.shape))),
        requires_grad=False,
        layout=0,
        data_buffer_idx=0,
        allocation_info=schema.AllocationDetails(memory_id=1, memory_offset_low=offset, memory_offset_high=0),
        shape_dynamism=schema.TensorShapeDynamism.STATIC,
    )


def _add_outputs(plan: Any, values: list[Value]) -> None:
    """Make ``values`` outputs of the plan's only instruction, the call of the delegate, and of the plan."""
    from executorch.exir import schema

    call = plan.chains[0].instructions[0].instr_args
    end = plan.non_const_buffer_sizes[1]
    for value in values:
        offset = end + -end % _ALIGNMENT
        end = offset + math.prod(value.shape) * (4 if value.datatype == _FLOAT32 else 1)
        call.args.append(len(plan.values))
        plan.outputs.append(len(plan.values))
        plan.values.append(schema.EValue(_tensor(value, offset)))
    plan.non_const_buffer_sizes[1] = end


def write_tapped(path: Path, copy: Path) -> list[tuple[Kind, Value]]:
    """Write the program with every layer as an output, behind the logits; gives back the layers, in their order.

    Layers that are outputs anyway (the logits of a float program) are not added again. Raises InputError.
    """
    from executorch.exir._serialize._program import serialize_pte_binary

    file, plan, delegate = _read(path)
    payload = bytes(delegate.data)
    graph, constants = split_payload(payload)
    values = read_values(graph)
    layers = [(kind, values[output]) for kind, output in _layers(contents.graph(payload))]
    if unknown := {value.datatype for _, value in layers} - {_FLOAT32, _QINT8}:
        raise InputError(f"{path} has layers of the XNNPACK datatypes {sorted(unknown)}; known: float32 and qint8")
    added = [value for _, value in layers if not value.is_output]
    delegate.data = join_payload(with_outputs(graph, added), constants)
    _add_outputs(plan, added)
    copy.write_bytes(bytes(serialize_pte_binary(file, extract_delegate_segments=True)))
    return layers


def _layer(index: int, kind: Kind, value: Value, tensor: torch.Tensor) -> Layer:
    if kind == "conv":
        tensor = tensor.permute(0, 3, 1, 2)  # [1, H, W, C] -> [1, C, H, W]
    name, data = f"{kind} {index}", tensor.numpy()
    if value.affine is None:
        return Layer(kind, name, data)
    return stored(kind, name, data, value.affine.scale, value.affine.zero_point, int(np.iinfo(data.dtype).min))


def tap(path: Path, image: Image) -> tuple[Layer, ...]:
    """Every layer of the ``.pte`` on ``image`` float32 [1, C, H, W], as this host's ExecuTorch computes it.

    Raises InputError when ``path`` is no program, or not one that is a single XNNPACK delegate.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        layers = write_tapped(path, copy)
        logits, *added = run.load(copy, 1).execute(image)
    outputs = iter(added)
    found = [(kind, value, logits if value.is_output else next(outputs)) for kind, value in layers]
    return tuple(_layer(index, *entry) for index, entry in enumerate(found))
