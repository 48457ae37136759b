"""A ``.mlpackage`` against the program it was lowered from.

The reference interpreter computes it in float32, and the program has its constants as the package stores them. What
remains between the two is the order of additions, which hides no fault; float16 rounding would.
"""

from __future__ import annotations

from pathlib import Path

from torch import fx
from torch.export import ExportedProgram

from levit_edge.metrics.program_match import ProgramMatch
from targets.coreml.constants import file_graph
from targets.coreml.half_constants import half_constants, rounded
from targets.coreml.mil.reading import read
from targets.coreml.tap import open_tap
from targets.program.facts import program_graph
from targets.program.judge import judge as judge_layers
from targets.program.match import match
from targets.runner import Image


def verify(package: Path, program: ExportedProgram, half: bool, images: Image) -> ProgramMatch:
    """How the package compares with ``program`` on ``images`` float32 [B, C, H, W].

    ``half``: it was converted to float16. Raises InputError when the interpreter cannot compute the package.
    """
    tap = open_tap(package, "float32")
    wanted = program_graph(program, rounded if half else None)
    return match(file_graph(read(package)), wanted, _module(program, half), tap, images)


def judge(package: Path, program: ExportedProgram, half: bool, image: Image) -> tuple[str, ...]:
    """Why each layer departs from ``program`` on ``image`` float32 [1, C, H, W]; empty where it does not."""
    return judge_layers(_module(program, half), image, open_tap(package, "float32")(image))


def _module(program: ExportedProgram, half: bool) -> fx.GraphModule:
    return half_constants(program) if half else program.module()
