"""An ``.onnx`` against the program it was lowered from."""

from __future__ import annotations

from pathlib import Path

from torch.export import ExportedProgram

from levit_edge.metrics.program_match import ProgramMatch
from targets.ort.constants import file_graph
from targets.ort.tap import open_tap
from targets.program.facts import program_graph
from targets.program.judge import judge as judge_layers
from targets.program.match import match
from targets.runner import Image


def verify(path: Path, program: ExportedProgram, half: bool, images: Image) -> ProgramMatch:
    """How the file compares with ``program`` on ``images`` float32 [B, C, H, W]; ``half`` is ignored.

    The int8 instructions of some x86 processors saturate between two products, so ONNX Runtime's default kernels give
    other values there, whatever the file. What departs is therefore compared again with kernels that never saturate.
    Raises InputError when ONNX Runtime cannot load the file.
    """
    del half
    import onnx

    found, wanted, module = file_graph(onnx.load(path)), program_graph(program), program.module()
    result = match(found, wanted, module, open_tap(path), images)
    return match(found, wanted, module, open_tap(path, exact=True), images) if result.departures else result


def judge(path: Path, program: ExportedProgram, half: bool, image: Image) -> tuple[str, ...]:
    """Why each layer departs from ``program`` on ``image`` float32 [1, C, H, W]; empty where it does not."""
    del half
    return judge_layers(program.module(), image, open_tap(path)(image))
