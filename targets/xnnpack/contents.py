"""Which operators a ``.pte`` holds, inside its delegates and outside."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from levit_edge.errors import InputError
from levit_edge.report.answers import Placement, Precision
from targets.target import Contents, operator_rows

_MOVES = {"XNNStaticReshape", "XNNStaticTranspose", "XNNCopy", "XNNStaticSlice"}
_CONVERT = "XNNConvert"


def graph(payload: bytes) -> dict[str, Any]:
    """The XNNPACK graph inside a delegate's payload, as the JSON of its schema."""
    from executorch.backends.xnnpack.serialization import xnnpack_graph_serialize as serialize
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    header = serialize.XNNHeader.from_bytes(payload[: serialize.XNNHeader.EXPECTED_LENGTH])
    with tempfile.TemporaryDirectory() as folder:
        schema, binary = Path(folder, "graph.fbs"), Path(folder, "graph.bin")
        schema.write_bytes(serialize._get_schema_bytes())
        binary.write_bytes(payload[header.flatbuffer_offset :][: header.flatbuffer_size])
        _flatc_decompile(folder, str(schema), str(binary), [])
        decoded: dict[str, Any] = json.loads(Path(folder, "graph.json").read_text(encoding="utf-8"))
    return decoded


def _delegated(decoded: dict[str, Any]) -> Iterator[tuple[str, Precision, Placement]]:
    integer = set()
    for value in decoded["xvalues"]:
        union = value["xvalue_union"]
        tensor = union.get("tensor_value", union)
        if tensor["datatype"] != "xnn_datatype_fp32":
            integer.add(tensor["id_out"])
    for node in decoded["xnodes"]:
        kind, union = node["xnode_union_type"], node["xnode_union"]
        if kind in _MOVES or kind == _CONVERT:
            yield kind, "move", "delegate"
        else:
            yield kind, "int8" if union["output_id"] in integer else "float", "delegate"


def contents(path: Path) -> Contents:
    """Operators of every delegate and outside of them; InputError when ``path`` is not a program."""
    from executorch.exir._serialize._program import deserialize_pte_binary

    try:
        program = deserialize_pte_binary(path.read_bytes()).program
    except (OSError, ValueError, AssertionError, RuntimeError, struct.error) as error:
        raise InputError(f"{path} is not an ExecuTorch program: {error}") from None
    plan = program.execution_plan[0]
    rows: list[tuple[str, Precision, Placement]] = []
    for delegate in plan.delegates:
        payload = bytes(program.backend_delegate_data[delegate.processed.index].data)
        rows += _delegated(graph(payload))
    kinds = [operator.name for operator in plan.operators]
    for instruction in plan.chains[0].instructions:
        if (index := getattr(instruction.instr_args, "op_index", None)) is not None:
            rows.append((kinds[index], "float", "fallback"))
    return Contents(len(plan.delegates), operator_rows(rows))
