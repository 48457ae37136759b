"""Taking a ``.pte`` apart: the program, and the XNNPACK graph in the payload of each of its delegates.

A payload is a header, a FlatBuffer and constants. The FlatBuffer becomes Python objects through classes that flatc
generates from the schema; both flatc and the schema come with ExecuTorch. flatc's JSON would not do: it writes six
decimals, and so changes every scale. Objects written back keep every bit of every number.
"""

from __future__ import annotations

import importlib.util
import struct
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from levit_edge.errors import InputError
from levit_edge.wording import first_line

_FILE_IDENTIFIER = b"XN01"
_ALIGNMENT = 16
_DAMAGED = (ValueError, TypeError, AttributeError, IndexError, AssertionError, RuntimeError, struct.error)


@dataclass(frozen=True)
class Payload:
    """What one delegate is given: its ``graph``, an ``XNNGraphT`` of :func:`schema` that may be edited in place."""

    graph: Any
    constants: bytes


@dataclass(frozen=True)
class ProgramFile:
    """A ``.pte`` as ExecuTorch's own ``PTEFile``, and the payload of each delegate of its only method."""

    file: Any
    payloads: tuple[Payload, ...]

    @property
    def plan(self) -> Any:
        """The execution plan of the method: its values, its outputs and its instructions."""
        return self.file.program.execution_plan[0]

    def write(self, path: Path) -> None:
        """Write the program to ``path``, with the graphs as they are now."""
        from executorch.exir._serialize._program import serialize_pte_binary

        for blob, payload in zip(_blobs(self.file), self.payloads, strict=True):
            blob.data = _join(payload)
        path.write_bytes(bytes(serialize_pte_binary(self.file, extract_delegate_segments=True)))


def read_program(path: Path) -> ProgramFile:
    """The program at ``path``; InputError when there is none, or when a delegate of it is not XNNPACK's."""
    from executorch.exir._serialize._program import deserialize_pte_binary

    try:
        file = deserialize_pte_binary(path.read_bytes())
    except (OSError, *_DAMAGED) as error:
        raise InputError(f"{path} is not an ExecuTorch program: {first_line(error)}") from None
    try:
        return ProgramFile(file, tuple(_split(bytes(blob.data)) for blob in _blobs(file)))
    except _DAMAGED as error:
        raise InputError(f"{path} is not a program for XNNPACK alone: {first_line(error)}") from None


def tensor_of(value: Any) -> Any:
    """The ``XNNTensorValueT`` of an entry of ``graph.xvalues``, whether it is quantized or not."""
    return getattr(value.xvalueUnion, "tensorValue", value.xvalueUnion)


def operator_name(node: Any) -> str:
    """The schema's name for an entry of ``graph.xnodes``, such as ``XNNConv2d``."""
    names = {number: name for name, number in vars(schema().XNodeUnion).items()}
    return str(names[node.xnodeUnionType])


@cache
def schema() -> ModuleType:
    """The schema of XNNPACK graphs as Python classes: ``XNNGraphT`` and all that it holds."""
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import _get_schema_bytes
    from executorch.exir._serialize._flatbuffer import _run_flatc

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "schema.fbs")
        source.write_bytes(_get_schema_bytes())
        _run_flatc(["--python", "--gen-object-api", "--gen-onefile", "-o", folder, str(source)])
        spec = importlib.util.spec_from_file_location("xnnpack_schema", Path(folder, "schema_generated.py"))
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    # flatc 24 spells these functions in one way where it defines them and in another where it calls them.
    creators = {name.lower(): creator for name, creator in vars(module).items() if name.endswith("Creator")}
    for union in ("XNodeUnion", "XValueUnion", "XNNQuantParams"):
        setattr(module, f"{union}Creator", creators[f"{union}Creator".lower()])
    return module


def _blobs(file: Any) -> list[Any]:
    data = file.program.backend_delegate_data
    return [data[delegate.processed.index] for delegate in file.program.execution_plan[0].delegates]


def _split(payload: bytes) -> Payload:
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader

    header = XNNHeader.from_bytes(payload[: XNNHeader.EXPECTED_LENGTH])
    flatbuffer = payload[header.flatbuffer_offset :][: header.flatbuffer_size]
    constants = payload[header.constant_data_offset :][: header.constant_data_size]
    return Payload(schema().XNNGraphT.InitFromPackedBuf(flatbuffer), constants)


def _join(payload: Payload) -> bytes:
    import flatbuffers
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader

    builder = flatbuffers.Builder()
    builder.Finish(payload.graph.Pack(builder), file_identifier=_FILE_IDENTIFIER)
    flatbuffer = bytes(builder.Output())
    start = _aligned(XNNHeader.EXPECTED_LENGTH)
    end = start + _aligned(len(flatbuffer))
    header: bytes = XNNHeader(start, len(flatbuffer), end, len(payload.constants)).to_bytes()
    return header.ljust(start, b"\0") + flatbuffer.ljust(end - start, b"\0") + payload.constants


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
