"""Which operators a ``.pte`` holds, inside its delegates and outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from levit_edge.report.answers import Placement, Precision
from targets.target import Contents, operator_rows
from targets.xnnpack.program_file import operator_name, read_program, schema, tensor_of

_MOVES = {"XNNStaticReshape", "XNNStaticTranspose", "XNNCopy", "XNNStaticSlice", "XNNConvert"}


def contents(path: Path) -> Contents:
    """The operators of every delegate and those outside; InputError when ``path`` is not a program for XNNPACK."""
    program = read_program(path)
    delegated = [row for payload in program.payloads for row in _delegated(payload.graph)]
    return Contents(len(program.payloads), operator_rows([*delegated, *_outside(program.plan)]))


def _outside(plan: Any) -> Iterator[tuple[str, Precision, Placement]]:
    for instruction in plan.chains[0].instructions:
        if (index := getattr(instruction.instr_args, "op_index", None)) is not None:
            yield plan.operators[index].name, "float", "fallback"


def _delegated(graph: Any) -> Iterator[tuple[str, Precision, Placement]]:
    float32 = schema().XNNDatatype.xnn_datatype_fp32
    floats = {tensor.idOut for tensor in map(tensor_of, graph.xvalues) if tensor.datatype == float32}
    for node in graph.xnodes:
        name = operator_name(node)
        if name in _MOVES:
            yield name, "move", "delegate"
        else:
            yield name, "float" if node.xnodeUnion.outputId in floats else "int8", "delegate"
