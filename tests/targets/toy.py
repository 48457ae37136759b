"""A target that only the tests have: its model file is the program itself, which torch runs.

``monkeypatch.setitem(TARGETS, "toy", TOY)`` makes it a target like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch.export import ExportedProgram

from levit_edge.report.answers import Placement, Precision
from quantize.scheme import ATTENTION_INPUTS, ATTENTION_INSIDE, RESIDUAL_STREAM, Role, Scheme
from targets.program import Layer, replay
from targets.runner import Image, Logits
from targets.target import Backend, Contents, Target, operator_rows
from tests.programs import DEQUANTIZE, DEQUANTIZE_CHANNELS, QUANTIZE

MOVES = (QUANTIZE, DEQUANTIZE, DEQUANTIZE_CHANNELS)


def lower(program: ExportedProgram, path: Path, half: bool) -> None:
    """Save the program; ``half`` changes nothing, because torch computes it in float32."""
    buffer = BytesIO()  # torch would write the name of a file into it
    torch.export.save(program, buffer)
    path.write_bytes(buffer.getvalue())


class ToyRunner:
    """A saved program in torch."""

    runtime, executed = "toy-torch", True

    def __init__(self, path: Path) -> None:
        self._module = replay.load(path).module()

    def __call__(self, image: Image) -> Logits:
        with torch.no_grad():
            logits: Logits = self._module(torch.from_numpy(np.ascontiguousarray(image))).numpy()
        return logits


def load(path: Path, threads: int) -> ToyRunner:
    """The program in torch, on however many threads torch has."""
    return ToyRunner(path)


def contents(path: Path) -> Contents:
    """The operators of the saved program; ``int8`` are those whose every result is stored as an integer."""
    return Contents(None, operator_rows(_operators(replay.load(path))), ("run by torch, operator by operator",))


def _operators(program: ExportedProgram) -> Iterator[tuple[str, Precision, Placement]]:
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        name = str(node.target).removesuffix(".default")
        if node.target in MOVES:
            yield name, "move", "runtime"
        else:
            yield name, "int8" if {user.target for user in node.users} == {QUANTIZE} else "float", "runtime"


def tap(path: Path, image: Image) -> tuple[Layer, ...]:
    """Every layer of the saved program on ``image`` float32 [1, C, H, W]."""
    return replay.tap(replay.load(path), image)


TOY = Target(
    name="toy",
    model_file="model.toy",
    reference_file="model.fp32.toy",
    scheme=Scheme(
        activation_dtype="uint8",
        stored=frozenset(Role) - ATTENTION_INSIDE - ATTENTION_INPUTS - RESIDUAL_STREAM - {Role.LOGITS},
        float_residual=True,
    ),
    runtime="torch",
    builds_with=("torch", "torchao"),
    runs_with=("torch",),
    load_backend=lambda: Backend(lower=lower, load=load, contents=contents, tap=tap),
    # A saved program keeps its weights in float beside the integer ones, and torch runs each quantize operator on its
    # own: the int8 file is neither smaller nor faster.
    limits={"int8": {"max_size_ratio": 1.05, "min_speedup": 0.01}, "fp32": {"max_size_ratio": 1.05}},
    options={"kind": "toy"},
)
