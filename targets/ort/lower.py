"""Writing an ``.onnx`` with torch's exporter, less what only serves to debug that exporter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.export import ExportedProgram

from targets.ort import OPSET
from targets.target import INPUT_NAME, OUTPUT_NAME


def lower(program: ExportedProgram, path: Path, half: bool) -> None:
    """Write the ``.onnx``, and let ``onnx.checker`` check it. ``half`` is ignored: float operators are float32."""
    del half
    import onnx
    import torch

    exported = torch.onnx.export(
        program, dynamo=True, opset_version=OPSET, input_names=[INPUT_NAME], output_names=[OUTPUT_NAME], verbose=False
    )
    assert exported is not None
    model = exported.model_proto
    _strip(model)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _strip(model: Any) -> None:
    """Remove stack traces and inferred shapes, which only serve to debug the exporter: a tenth of an int8 file."""
    graph = model.graph
    for entries in (graph.node, graph.input, graph.output, graph.initializer):
        for entry in entries:
            del entry.metadata_props[:]
            entry.doc_string = ""
    for props in (graph.metadata_props, model.metadata_props, graph.value_info):
        del props[:]
