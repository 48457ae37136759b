"""Making values of an XNNPACK graph visible: the delegate's payload, with more of its tensors as outputs.

The payload is a header, a FlatBuffer (schema: executorch/backends/xnnpack/serialization/schema.fbs) and constants. A
new table is put behind the FlatBuffer for every value to be shown, and the reference to the old one is turned to it;
all the rest stays as it is, byte for byte. (Format: https://flatbuffers.dev/internals/.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

# Indices of the fields in the schema's tables.
_GRAPH_VALUES, _GRAPH_EXTERNS = 2, 3
_UNION_TYPE, _UNION = 0, 1  # XValue
_TENSOR, _QUANT_TYPE, _QUANT = 0, 1, 2  # XNNQuantizedTensorValue
_DATATYPE, _DIMS, _FLAGS, _ID = 0, 2, 5, 6  # XNNTensorValue

_QUANTIZED_TENSOR = 2  # in the union of values
_PER_TENSOR = 2  # in the union of quantization parameters
_EXTERNAL_OUTPUT = 2

# XNNTensorValue with all of its seven fields: the size of this list, the size of the table, where each field is.
_FIELDS = struct.pack("<9H2x", 18, 32, 4, 8, 12, 16, 20, 24, 28)
_ALIGNMENT = 16


@dataclass(frozen=True)
class Affine:
    """Scale and zero point as the graph has them, per tensor."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Value:
    """A tensor of the graph. ``datatype`` is that of the schema; ``parent`` is the place of the reference to it."""

    id: int
    datatype: int
    shape: tuple[int, ...]
    affine: Affine | None
    is_output: bool
    parent: int


def _u32(data: bytes | bytearray, at: int | None) -> int:
    return int(struct.unpack_from("<I", data, at)[0]) if at is not None else 0


def _field(data: bytes | bytearray, table: int, index: int) -> int | None:
    """Where field ``index`` of a table is; None for one that has its default value, which is 0 throughout."""
    fields = table - struct.unpack_from("<i", data, table)[0]
    size = struct.unpack_from("<H", data, fields)[0]
    offset = struct.unpack_from("<H", data, fields + 4 + 2 * index)[0] if 4 + 2 * index < size else 0
    return table + offset if offset else None


def _place(data: bytes | bytearray, table: int, index: int) -> int:
    place = _field(data, table, index)
    if place is None:
        raise ValueError(f"the XNNPACK graph has a table at {table} without field {index}")
    return place


def _target(data: bytes | bytearray, at: int) -> int:
    """Where the reference at ``at`` leads."""
    return at + _u32(data, at)


def _affine(data: bytes | bytearray, value: int) -> Affine | None:
    kind = data[_place(data, value, _QUANT_TYPE)]
    if kind != _PER_TENSOR:
        return None
    table = _target(data, _place(data, value, _QUANT))
    scale, zero_point = _place(data, table, 0), _field(data, table, 1)
    zero = struct.unpack_from("<i", data, zero_point)[0] if zero_point is not None else 0
    return Affine(struct.unpack_from("<f", data, scale)[0], zero)


def _values(data: bytes | bytearray) -> Iterator[Value]:
    vector = _target(data, _place(data, _target(data, 0), _GRAPH_VALUES))
    for index in range(_u32(data, vector)):
        entry = _target(data, vector + 4 + 4 * index)
        parent, affine = _place(data, entry, _UNION), None
        if data[_place(data, entry, _UNION_TYPE)] == _QUANTIZED_TENSOR:
            quantized = _target(data, parent)
            affine, parent = _affine(data, quantized), _place(data, quantized, _TENSOR)
        table = _target(data, parent)
        dims = _target(data, _place(data, table, _DIMS)) if _field(data, table, _DIMS) is not None else None
        shape = struct.unpack_from(f"<{_u32(data, dims)}I", data, dims + 4) if dims is not None else ()
        datatype = struct.unpack_from("<h", data, _place(data, table, _DATATYPE))[0]
        is_output = bool(_u32(data, _field(data, table, _FLAGS)) & _EXTERNAL_OUTPUT)
        yield Value(_u32(data, _field(data, table, _ID)), datatype, shape, affine, is_output, parent)


def _append(data: bytearray, fields: int, value: Value, external_id: int) -> None:
    """A table for ``value`` as output number ``external_id``, and the reference to it."""
    table, rank = len(data), len(value.shape)
    to_dims = 20  # from the field of the dimensions to the end of the table, where they follow
    data += struct.pack("<iHxxII", table - fields, value.datatype, rank, to_dims)
    data += struct.pack("<IIII", 0, external_id, _EXTERNAL_OUTPUT, value.id)
    data += struct.pack(f"<I{rank}I", rank, *value.shape)
    struct.pack_into("<I", data, value.parent, table - value.parent)


def read_values(graph: bytes) -> Mapping[int, Value]:
    """The tensors of the graph's FlatBuffer by their id. ValueError or struct.error when it is damaged."""
    return {value.id: value for value in _values(graph)}


def with_outputs(graph: bytes, values: list[Value]) -> bytes:
    """The FlatBuffer with ``values`` as further outputs, numbered on from the external values it has."""
    data = bytearray(graph + bytes(-len(graph) % 4))
    fields = len(data)
    data += _FIELDS
    externs = _place(data, _target(data, 0), _GRAPH_EXTERNS)
    first = _u32(data, externs)
    for number, value in enumerate(values):
        _append(data, fields, value, first + number)
    struct.pack_into("<I", data, externs, first + len(values))
    return bytes(data)


def split_payload(payload: bytes) -> tuple[bytes, bytes]:
    """(FlatBuffer, constants) of a delegate's payload. ValueError when it has no header."""
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader

    header = XNNHeader.from_bytes(payload[: XNNHeader.EXPECTED_LENGTH])
    graph = payload[header.flatbuffer_offset :][: header.flatbuffer_size]
    return graph, payload[header.constant_data_offset :][: header.constant_data_size]


def join_payload(graph: bytes, constants: bytes) -> bytes:
    """The reverse of :func:`split_payload`."""
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader

    start = -(-XNNHeader.EXPECTED_LENGTH // _ALIGNMENT) * _ALIGNMENT
    padded = graph + bytes(-len(graph) % _ALIGNMENT)
    header = XNNHeader(start, len(graph), start + len(padded), len(constants)).to_bytes()
    return b"".join((header, bytes(start - len(header)), padded, constants))
