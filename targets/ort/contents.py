"""Which operators ONNX Runtime runs for an ``.onnx``: those that its own fusions leave."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from levit_edge.report.answers import Placement, Precision
from targets.ort.run import session
from targets.target import Contents, operator_rows

_SHAPES = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "ReorderInput", "ReorderOutput", "Identity"}
_MOVES = _SHAPES | {"QuantizeLinear", "DequantizeLinear"}
_INTEGER_WORDS = ("QLinear", "QGemm", "Integer", "QAttention")


def contents(path: Path) -> Contents:
    """The operators that ONNX Runtime runs on this machine; InputError when it cannot load the file."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder, "optimized.onnx")
        session(path, 1, optimized)
        nodes = onnx.load(optimized).graph.node
    return Contents(None, operator_rows(_operators(nodes)), ("operators after ONNX Runtime's fusions on this host",))


def _operators(nodes: Any) -> Iterator[tuple[str, Precision, Placement]]:
    for node in nodes:
        kind = node.op_type
        if kind in _MOVES:
            yield kind, "move", "runtime"
        else:
            yield kind, "int8" if any(word in kind for word in _INTEGER_WORDS) else "float", "runtime"
