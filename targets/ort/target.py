"""ARM Linux: QDQ models that ONNX Runtime's CPU provider fuses into integer kernels."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.export import ExportedProgram

from levit_edge.errors import InputError
from levit_edge.report.answers import Placement, Precision
from quantize.scheme import ATTENTION_INSIDE, RESIDUAL_STREAM, Role, Scheme
from targets.target import INPUT_NAME, OUTPUT_NAME, Contents, Image, Logits, operator_rows

OPSET = 21

# Unsigned activations, because only they fuse with several consumers on x86 and ARM alike; int32 biases, because only
# they go into QGemm and QLinearConv. QGemm can give floats, so what is not an input of the next layer stays float: the
# second attention product on both sides (see ATTENTION_INSIDE), the logits (no ties between classes), and the residual
# stream with all that is added to it.
SCHEME = Scheme(
    activation_dtype="uint8",
    stored=frozenset(Role) - ATTENTION_INSIDE - RESIDUAL_STREAM - {Role.VALUES, Role.LOGITS},
    float_residual=True,
    integer_bias=True,
    constant_bias="weight",
    hardswish="integer",
)

_MOVES = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "ReorderInput", "ReorderOutput", "Identity"}
_CONVERSIONS = {"QuantizeLinear", "DequantizeLinear"}
_INTEGER_WORDS = ("QLinear", "QGemm", "Integer", "QAttention")


def _strip(model: Any) -> None:
    """Remove what only helps to debug the exporter: stack traces and inferred shapes, a tenth of an int8 file."""
    graph = model.graph
    for entries in (graph.node, graph.input, graph.output, graph.initializer):
        for entry in entries:
            del entry.metadata_props[:]
            entry.doc_string = ""
    for props in (graph.metadata_props, model.metadata_props, graph.value_info):
        del props[:]


def lower(program: ExportedProgram, path: Path, half: bool) -> None:
    """Write the ``.onnx``, checked by ``onnx.checker``. Float operators are float32 whatever ``half`` says."""
    del half
    import onnx
    import torch

    exported = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=OPSET,
        input_names=[INPUT_NAME],
        output_names=[OUTPUT_NAME],
        verbose=False,
    )
    assert exported is not None
    model = exported.model_proto
    _strip(model)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def session(path: Path, threads: int, optimized: Path | None = None) -> Any:
    """The ``.onnx`` as an ``onnxruntime.InferenceSession`` on ``threads`` threads, all graph optimizations on.

    The graph after them is written to ``optimized``, if given. InputError when ONNX Runtime cannot load ``path``.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")  # idle threads would slow the other session
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  # the bindings raise classes without a common base
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is not a model that ONNX Runtime can load: {reason}") from None


class OrtRunner:
    """An ``.onnx`` in ONNX Runtime's CPU provider, all graph optimizations on."""

    executed = True

    def __init__(self, path: Path, threads: int) -> None:
        self._run = session(path, threads).run
        self.runtime = "onnxruntime-cpu"

    def __call__(self, image: Image) -> Logits:
        logits: Logits = self._run([OUTPUT_NAME], {INPUT_NAME: image})[0]
        return logits


def load(path: Path, threads: int) -> OrtRunner:
    """The model in ONNX Runtime with ``threads`` threads."""
    return OrtRunner(path, threads)


def _operators(nodes: Any) -> Iterator[tuple[str, Precision, Placement]]:
    for node in nodes:
        kind = node.op_type
        if kind in _MOVES or kind in _CONVERSIONS:
            yield kind, "move", "runtime"
        else:
            yield kind, "int8" if any(word in kind for word in _INTEGER_WORDS) else "float", "runtime"


def contents(path: Path) -> Contents:
    """Operators as ONNX Runtime runs them on this machine, after its own fusions."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder, "optimized.onnx")
        session(path, 1, optimized)
        nodes = onnx.load(optimized).graph.node
    return Contents(None, operator_rows(_operators(nodes)), ("operators after ONNX Runtime's fusions on this host",))
