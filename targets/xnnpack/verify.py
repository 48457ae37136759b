"""A ``.pte`` against the program it was lowered from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from levit_edge.metrics.program_match import ProgramMatch
from targets.program.facts import integer_bias_parts, program_graph, stored_bias
from targets.program.judge import judge as judge_layers
from targets.program.match import match
from targets.runner import Image
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
    return match(found, program_graph(program, integer_bias=True), with_stored_biases(program), tap, images)


def judge(path: Path, program: ExportedProgram, half: bool, image: Image) -> tuple[str, ...]:
    """Why each layer departs from ``program`` on ``image`` float32 [1, C, H, W]; empty where it does not."""
    del half
    return judge_layers(with_stored_biases(program), image, open_tap(path, current_threads())(image))


def with_stored_biases(program: ExportedProgram) -> fx.GraphModule:
    """The module of ``program`` with the bias of every integer layer as the int32 of the file stands for it."""
    module = program.module()
    for node in module.graph.nodes:
        if (parts := integer_bias_parts(node)) is not None:
            bias, scales, input_scale = parts
            integers, steps = stored_bias(_tensor(module, bias), _tensor(module, scales), input_scale)
            owner, _, leaf = str(bias.target).rpartition(".")
            # In float64 first: an int32 has more digits than a float32.
            stored = (integers.to(torch.float64) * steps.to(torch.float64)).to(torch.float32)
            _replace(module.get_submodule(owner), leaf, stored)
    return module


def _tensor(module: fx.GraphModule, node: fx.Node) -> torch.Tensor:
    owner, _, leaf = str(node.target).rpartition(".")
    tensor = getattr(module.get_submodule(owner), leaf)
    assert isinstance(tensor, torch.Tensor)
    return tensor.detach()


def _replace(owner: nn.Module, name: str, tensor: torch.Tensor) -> None:
    is_parameter = isinstance(getattr(owner, name), nn.Parameter)
    setattr(owner, name, nn.Parameter(tensor, requires_grad=False) if is_parameter else tensor)
