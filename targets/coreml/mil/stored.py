"""The torch program that a float16 package should compute: its constants as the package stores them.

A converter to float16 rounds weights, biases and scales; what the package computes then differs from the program by
that, and a fault can hide behind it. Against a program with the same rounded constants, the interpreter in precision
``float32`` agrees to the last bits of float32, but for images where a quotient falls on a tie.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram


def half_constants(program: ExportedProgram) -> nn.Module:
    """The module of ``program`` with every float constant rounded to float16, as float32; it computes in float32.

    Scales that the graph writes out are rounded too: the second argument of PT2E's quantize and dequantize per tensor.
    """
    import torchao.quantization.pt2e  # noqa: F401  # registers the operators

    operators = torch.ops.quantized_decomposed
    per_tensor = (operators.quantize_per_tensor.default, operators.dequantize_per_tensor.default)
    module = program.module()
    for node in module.graph.nodes:
        if node.target in per_tensor:
            tensor, scale, *others = node.args
            node.args = (tensor, _rounded(torch.tensor(scale)).item(), *others)
    for owner in module.modules():
        for name, tensor in [*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False)]:
            if tensor.is_floating_point():
                setattr(owner, name, _like(tensor, _rounded(tensor)))
    module.recompile()
    return module


def _rounded(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.float16).to(torch.float32)


def _like(before: Tensor, after: Tensor) -> Tensor:
    """``after`` as a parameter where ``before`` is one."""
    return nn.Parameter(after, requires_grad=False) if isinstance(before, nn.Parameter) else after
