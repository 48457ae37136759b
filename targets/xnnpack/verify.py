"""A ``.pte`` against the program it was lowered from."""

from __future__ import annotations

from pathlib import Path

from torch.export import ExportedProgram

from levit_edge.metrics.program_match import ProgramMatch
from targets.program.facts import program_graph
from targets.program.judge import judge as judge_layers
from targets.program.match import match
from targets.runner import Image
from targets.xnnpack.bias import bias_facts, with_stored_biases
from targets.xnnpack.constants import file_graph
from targets.xnnpack.program_file import read_program
from targets.xnnpack.run import current_threads
from targets.xnnpack.tap import is_one_delegate, open_tap


def verify(path: Path, program: ExportedProgram, half: bool, images: Image) -> ProgramMatch | None:
    """How the file compares with ``program`` on ``images`` float32 [B, C, H, W]; ``half`` is ignored.

    None for a file of several delegates, whose layers cannot be read out together: a model with operators that XNNPACK
    does not take is lowered to one. Raises InputError when ExecuTorch cannot load the file.
    """
    del half
    if not is_one_delegate(read_program(path)):
        return None
    tap = open_tap(path, current_threads())
    found = file_graph(read_program(path))
    return match(found, program_graph(program, bias_facts=bias_facts), with_stored_biases(program), tap, images)


def judge(path: Path, program: ExportedProgram, half: bool, image: Image) -> tuple[str, ...]:
    """Why each layer departs from ``program`` on ``image`` float32 [1, C, H, W]; empty where it does not."""
    del half
    return judge_layers(with_stored_biases(program), image, open_tap(path, current_threads())(image))
