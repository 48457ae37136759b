"""The layers of a ``.pte`` as ExecuTorch's XNNPACK delegate computes them: a copy of the program with more outputs.

The whole model is one delegate, and no profiler of the runtime shows what happens inside. In the copy, the output of
each layer is an output of the delegate and of the method; operators, constants and scales are those of the file.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from levit_edge.errors import InputError
from targets.program.tap import Kind, Layer, stored
from targets.runner import Image
from targets.xnnpack.program_file import ProgramFile, operator_name, read_program, schema, tensor_of
from targets.xnnpack.run import XnnpackRunner

KINDS: dict[str, Kind] = {
    "XNNConv2d": "conv",
    "XNNDepthwiseConv2d": "conv",
    "XNNFullyConnected": "linear",
    "XNNBatchMatrixMultiply": "matmul",
}
_EXTERNAL_OUTPUT = 2  # XNN_VALUE_FLAG_EXTERNAL_OUTPUT of xnnpack.h
_ALIGNMENT = 16


@dataclass(frozen=True)
class Tapped:
    """The output of one layer: an entry of the graph's ``xvalues``. ``added`` unless the program returns it anyway."""

    kind: Kind
    value: Any
    added: bool


def open_tap(path: Path, threads: int) -> Callable[[Image], tuple[Layer, ...]]:
    """A function that gives every layer of the ``.pte`` on one image, as this host's ExecuTorch computes it.

    Raises InputError when ``path`` is not a program, or not one that is a single XNNPACK delegate.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        layers = write_tapped(path, copy)
        runner = XnnpackRunner(copy, threads)

    def tap(image: Image) -> tuple[Layer, ...]:
        logits, *added = runner.execute(image)
        outputs = iter(added)
        tensors = [next(outputs) if layer.added else logits for layer in layers]
        return tuple(_layer(f"{layer.kind} {index}", layer, tensors[index]) for index, layer in enumerate(layers))

    return tap


def tap(path: Path, image: Image) -> tuple[Layer, ...]:
    """Every layer of the ``.pte`` on ``image`` float32 [1, C, H, W], as this host's ExecuTorch computes it.

    Raises InputError when ``path`` is not a program, or not one that is a single XNNPACK delegate.
    """
    return open_tap(path, 1)(image)


def is_one_delegate(program: ProgramFile) -> bool:
    """True where XNNPACK computes the whole program: one delegate, and its call is the only instruction."""
    return len(program.payloads) == 1 and len(program.plan.chains[0].instructions) == 1


def write_tapped(path: Path, copy: Path) -> list[Tapped]:
    """Write a copy of the program that returns every layer after the logits; gives the layers in their order.

    Layers that the program returns anyway (the logits of a float program) are not returned twice. Raises InputError
    like :func:`tap`.
    """
    program = read_program(path)
    if not is_one_delegate(program):
        raise InputError(f"{path} is not one XNNPACK delegate: it has {len(program.payloads)}; build it again")
    graph = program.payloads[0].graph
    values = {tensor_of(value).idOut: value for value in graph.xvalues}
    layers = []
    for node in graph.xnodes:
        if (kind := KINDS.get(operator_name(node))) is not None:
            value = values[node.xnodeUnion.outputId]
            layers.append(Tapped(kind, value, not tensor_of(value).flags & _EXTERNAL_OUTPUT))
    _add_outputs(program, [tensor_of(layer.value) for layer in layers if layer.added], path)
    program.write(copy)
    return layers


def _add_outputs(program: ProgramFile, tensors: list[Any], path: Path) -> None:
    """Make ``tensors`` outputs of the graph, of the call of the delegate (the plan's only instruction) and of the plan.

    Each gets room in the planned memory behind all that is there. InputError for a tensor that is not float32 or int8.
    """
    from executorch.exir.scalar_type import ScalarType
    from executorch.exir.schema import EValue

    datatypes = schema().XNNDatatype
    types = {datatypes.xnn_datatype_fp32: ScalarType.FLOAT, datatypes.xnn_datatype_qint8: ScalarType.CHAR}
    if unknown := {tensor.datatype for tensor in tensors} - set(types):
        raise InputError(f"{path} has layers of the XNNPACK datatypes {sorted(unknown)}; known: float32 and qint8")
    graph, plan = program.payloads[0].graph, program.plan
    end = plan.non_const_buffer_sizes[1]
    for tensor in tensors:
        tensor.externalId, tensor.flags = graph.numExterns, tensor.flags | _EXTERNAL_OUTPUT
        graph.numExterns += 1
        sizes = [] if tensor.dims is None else [int(size) for size in tensor.dims]
        offset = end + -end % _ALIGNMENT
        end = offset + math.prod(sizes) * (4 if types[tensor.datatype] == ScalarType.FLOAT else 1)
        plan.chains[0].instructions[0].instr_args.args.append(len(plan.values))
        plan.outputs.append(len(plan.values))
        plan.values.append(EValue(_planned(types[tensor.datatype], sizes, offset)))
    plan.non_const_buffer_sizes[1] = end


def _planned(scalar_type: Any, sizes: list[int], offset: int) -> Any:
    """A tensor of the plan at ``offset`` of its memory."""
    from executorch.exir.schema import AllocationDetails, Tensor, TensorShapeDynamism

    return Tensor(
        scalar_type=scalar_type,
        storage_offset=0,
        sizes=sizes,
        dim_order=list(range(len(sizes))),
        requires_grad=False,
        layout=0,
        data_buffer_idx=0,
        allocation_info=AllocationDetails(memory_id=1, memory_offset_low=offset, memory_offset_high=0),
        shape_dynamism=TensorShapeDynamism.STATIC,
    )


def _layer(name: str, tapped: Tapped, tensor: torch.Tensor) -> Layer:
    if tapped.kind == "conv":
        tensor = tensor.permute(0, 3, 1, 2)  # [1, H, W, C] -> [1, C, H, W]
    data, affine = tensor.numpy(), getattr(tapped.value.xvalueUnion, "quantParams", None)
    if affine is None:
        return Layer(tapped.kind, name, data)
    return stored(tapped.kind, name, data, affine.scale, affine.zeroPoint, int(np.iinfo(data.dtype).min))
