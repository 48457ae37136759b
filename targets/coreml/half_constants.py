"""The program that a float16 package computes: with its constants rounded as the package stores them.

A converter to float16 rounds weights, biases and scales. The difference that this makes to the program could hide a
fault, so a package is compared with a program whose constants are rounded in the same way. In precision ``float32``
the interpreter then agrees with that program to the last bits of float32, except where a quotient lies halfway between
two integers.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

_SMALLEST = 2.0**-24
_LONG = 400


def half_constants(program: ExportedProgram) -> fx.GraphModule:
    """The module of ``program`` with every float constant rounded to float16; it computes in float32.

    This includes the scales written in the graph, which are the second argument of PT2E's quantize and dequantize per
    tensor.
    """
    import torchao.quantization.pt2e  # noqa: F401  # registers the operators

    operators = torch.ops.quantized_decomposed
    per_tensor = (operators.quantize_per_tensor.default, operators.dequantize_per_tensor.default)
    module = program.module()
    for node in module.graph.nodes:
        if node.target in per_tensor:
            tensor, scale, *others = node.args
            node.args = (tensor, rounded(torch.tensor(scale)).item(), *others)
    for owner in module.modules():
        for name, tensor in owner.named_parameters(recurse=False):
            setattr(owner, name, nn.Parameter(rounded(tensor), requires_grad=False))
        for name, tensor in owner.named_buffers(recurse=False):
            setattr(owner, name, rounded(tensor))
    module.recompile()
    return module


def rounded(tensor: Tensor) -> Tensor:
    """A float tensor rounded to float16 as coremltools does it, as float32; integers as they are.

    Numbers that would become zero keep their sign and become the smallest float16 number, except in long tensors
    (mil/passes/defs/quantization.py, ``_check_underflow_to_zero``).
    """
    if not tensor.is_floating_point():
        return tensor.detach()
    exact = tensor.detach().to(torch.float32)
    stored = exact.to(torch.float16).to(torch.float32)
    if tensor.numel() >= _LONG:
        return stored
    return torch.where((exact != 0) & (stored == 0), torch.sign(exact) * _SMALLEST, stored)
