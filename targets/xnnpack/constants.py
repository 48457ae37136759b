"""The constants of a ``.pte``, as :mod:`targets.program.constants` compares them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from levit_edge.errors import InputError
from targets.program.constants import Array, Fact, Graph, Step, floats, integers, quantization
from targets.xnnpack.program_file import Payload, ProgramFile, operator_name, schema, tensor_of
from targets.xnnpack.tap import KINDS

# XNNPACK wants images as [N, H, W, C], so ExecuTorch stores the weights of convolutions in another order. These are the
# axes that give torch's order back: [O, H, W, I] -> [O, I, H, W], and [1, H, W, O] -> [O, 1, H, W].
_TO_TORCH = {"XNNConv2d": (0, 3, 1, 2), "XNNDepthwiseConv2d": (3, 0, 1, 2)}
_INT8_LOWEST = -128


def file_graph(program: ProgramFile) -> Graph:
    """The steps of the only delegate of a program, whose attention biases are constants of the program around it."""
    (payload,) = program.payloads
    return Graph(tuple(_Reader(program, payload).steps()), str(payload.graph.outputIds[0]))


class _Reader:
    def __init__(self, program: ProgramFile, payload: Payload) -> None:
        self._program, self._payload = program, payload
        self._values: Mapping[int, Any] = {tensor_of(value).idOut: value for value in payload.graph.xvalues}
        self._types = schema().XNNDatatype

    def steps(self) -> Iterator[Step]:
        written = {str(number) for node in self._payload.graph.xnodes for number in _ids(node, reads=False)}
        for number in self._values:
            if str(number) not in written:
                yield Step((), (str(number),), self._external_facts(number))
        for node in self._payload.graph.xnodes:
            name = operator_name(node)
            is_layer, operator = name in KINDS, node.xnodeUnion
            facts = self._weight_facts(operator, _TO_TORCH.get(name)) if hasattr(operator, "filterId") else ()
            reads = tuple(str(number) for number in _ids(node, reads=True))
            for number in _ids(node, reads=False):
                # Its integers come after the layer, as the quantize operator of the program does.
                yield Step(reads, (f"{number} computed",), facts, is_layer)
                yield Step((f"{number} computed",), (str(number),), self._quantization(number))

    def _quantization(self, number: int) -> tuple[Fact, ...]:
        value = self._values[number]
        if tensor_of(value).datatype != self._types.xnn_datatype_qint8:
            return ()
        parameters = value.xvalueUnion.quantParams
        return quantization(parameters.scale, parameters.zeroPoint, _INT8_LOWEST)

    def _weight_facts(self, operator: Any, axes: tuple[int, ...] | None) -> tuple[Fact, ...]:
        facts = self._tensor_facts(operator.filterId, axes)
        has_bias = operator.biasId in self._values
        return facts + (self._tensor_facts(operator.biasId, None) if has_bias else ())

    def _tensor_facts(self, number: int, axes: tuple[int, ...] | None) -> tuple[Fact, ...]:
        """Of a constant in the delegate: a weight in the order of ``axes``, or a bias."""
        value = self._values[number]
        tensor = tensor_of(value)
        dtypes = {
            self._types.xnn_datatype_qcint8: np.int8,
            self._types.xnn_datatype_qcint32: np.int32,
            self._types.xnn_datatype_fp32: np.float32,
        }
        if tensor.datatype not in dtypes:
            raise InputError(f"a weight has the XNNPACK datatype {tensor.datatype}; known: {sorted(dtypes)}")
        stored = self._buffer(tensor.constantBufferIdx, dtypes[tensor.datatype]).reshape(tensor.dims)
        values = stored if axes is None else stored.transpose(axes)
        if tensor.datatype == self._types.xnn_datatype_fp32:
            return floats(values)
        parameters = value.xvalueUnion.quantParams
        scales = self._buffer(parameters.scaleBufferIdx, np.float32)
        axis = parameters.channelDim if axes is None else axes.index(parameters.channelDim)
        return integers(values, scales, np.zeros(len(scales)), axis)

    def _external_facts(self, number: int) -> tuple[Fact, ...]:
        """Of a float constant that an operator other than a layer reads; it may lie outside the delegate."""
        tensor = tensor_of(self._values[number])
        if tensor.datatype != self._types.xnn_datatype_fp32 or number in self._layer_constants():
            return ()
        if tensor.constantBufferIdx:
            return floats(self._buffer(tensor.constantBufferIdx, np.float32))
        plan = self._program.plan
        arguments = plan.chains[0].instructions[0].instr_args.args
        outer = plan.values[arguments[tensor.externalId]].val
        if outer.data_buffer_idx == 0:  # the image
            return ()
        data = self._program.file.program.constant_buffer[outer.data_buffer_idx].storage
        count = int(np.prod(outer.sizes))
        return floats(np.frombuffer(bytes(data), np.float32, count).reshape(outer.sizes))

    def _layer_constants(self) -> set[int]:
        operators = [node.xnodeUnion for node in self._payload.graph.xnodes]
        weighted = [operator for operator in operators if hasattr(operator, "filterId")]
        return {number for operator in weighted for number in (operator.filterId, operator.biasId)}

    def _buffer(self, index: int, dtype: Any) -> Array:
        """A constant of the delegate, from the data that the file keeps under its name."""
        offset = self._payload.graph.constantData[index]
        named = self._program.file.named_data
        data = named.buffers[named.pte_data[offset.namedKey.decode()].buffer_index]
        return np.frombuffer(bytes(data)[: offset.size], dtype)


def _ids(node: Any, *, reads: bool) -> list[int]:
    """The values that a node reads or writes, except the constants of a layer: fields such as ``input1Id``."""
    fields = vars(node.xnodeUnion).items()
    kind = "input" if reads else "output"
    return [value for name, value in fields if name.startswith(kind) and name.endswith("Id")]
