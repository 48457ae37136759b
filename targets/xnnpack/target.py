"""Android: ExecuTorch programs whose every operator is in one XNNPACK delegate."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from levit_edge.errors import InputError
from levit_edge.report.answers import Placement, Precision
from quantize.scheme import ATTENTION_INSIDE, Role, Scheme
from targets.native_output import hushed_stderr
from targets.target import Contents, Image, Logits, operator_rows

# XNNPACK has no integer Hardswish, softmax or batched product: they run in float between integer tensors. Its integer
# linear gives integers only, so whatever a layer outputs must be stored. The attention bias stays float, because a
# constant that is dequantized at run time is not taken into the delegate.
SCHEME = Scheme(
    activation_dtype="int8",
    stored=frozenset(Role) - ATTENTION_INSIDE - {Role.RESIDUAL},
    required=frozenset({Role.LAYER, Role.BRANCH, Role.VALUES, Role.LOGITS}),
    float_residual=True,
)

_MOVES = {"XNNStaticReshape", "XNNStaticTranspose", "XNNCopy", "XNNStaticSlice"}
_CONVERT = "XNNConvert"


def lower(program: ExportedProgram, path: Path, half: bool) -> None:
    """Write the ``.pte``. XNNPACK computes float operators in float32 whatever ``half`` says."""
    del half
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    path.write_bytes(edge.to_executorch().buffer)


class XnnpackRunner:
    """A ``.pte`` in ExecuTorch's own runtime, through its Python bindings."""

    executed = True

    def __init__(self, path: Path, threads: int) -> None:
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        self.runtime = "executorch-xnnpack"
        try:
            with hushed_stderr():
                if portable_lib._threadpool_get_thread_count() != threads:
                    portable_lib._unsafe_reset_threadpool(threads)  # one pool for the process; must precede the load
                self._program = Runtime.get().load_program(path.read_bytes())
                self._method = self._program.load_method("forward")
        except (OSError, RuntimeError) as error:
            raise InputError(f"{path} is not a program that this ExecuTorch can load: {error}") from None

    def execute(self, image: Image) -> list[torch.Tensor]:
        """Every output of the program on ``image`` float32 [1, C, H, W]; copies, in the order of the file."""
        contiguous = torch.from_numpy(np.ascontiguousarray(image))  # the runtime ignores strides
        return [output.clone() for output in self._method.execute([contiguous])]

    def __call__(self, image: Image) -> Logits:
        logits: Logits = self.execute(image)[0].numpy()
        return logits


def load(path: Path, threads: int) -> XnnpackRunner:
    """The program in ExecuTorch's runtime with ``threads`` threads."""
    return XnnpackRunner(path, threads)


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
