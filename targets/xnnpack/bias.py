"""How ExecuTorch's XNNPACK backend stores the float bias of an integer layer: as int32 at the products' scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from quantize.roles import LAYERS
from targets.program.constants import Fact, integers


@dataclass(frozen=True)
class FloatBias:
    """The float bias of an integer layer, the scales of its weight, and the scale of its input."""

    bias: fx.Node
    weight_scales: fx.Node
    input_scale: float


def float_bias(layer: fx.Node) -> FloatBias | None:
    """That of ``layer`` if it is a layer with integer input and weight and a float bias; None for any other node."""
    operators = torch.ops.quantized_decomposed
    if layer.target not in LAYERS or len(layer.args) < 3:
        return None
    x, weight, bias = layer.args[:3]
    if not (isinstance(x, fx.Node) and isinstance(weight, fx.Node) and isinstance(bias, fx.Node)):
        return None
    if x.target != operators.dequantize_per_tensor.default:
        return None
    if weight.target != operators.dequantize_per_channel.default or bias.op not in ("placeholder", "get_attr"):
        return None
    scales, input_scale = weight.args[1], x.args[1]
    assert isinstance(scales, fx.Node) and isinstance(input_scale, float)
    return FloatBias(bias, scales, input_scale)


def stored_bias(bias: Tensor, weight_scales: Tensor, input_scale: float) -> tuple[Tensor, Tensor]:
    """(int32 [C], their scales float32 [C]) for a float ``bias`` [C].

    As ExecuTorch does it (backends/xnnpack/operators/quant_params.py, ``QuantParams.from_bias``).
    """
    scales = weight_scales * input_scale
    zeros = torch.zeros_like(scales, dtype=torch.int64)
    quantize = torch.ops.quantized_decomposed.quantize_per_channel.default
    lowest, highest = torch.iinfo(torch.int32).min, torch.iinfo(torch.int32).max
    return quantize(bias, scales, zeros, 0, lowest, highest, torch.int32), scales


def bias_facts(node: fx.Node, constants: Mapping[str, Tensor]) -> tuple[fx.Node, tuple[Fact, ...]] | None:
    """(the bias, its facts as the file stores it) of a layer; None where ``node`` has no such bias.

    ``constants`` are those of the program by the name of their node.
    """
    found = float_bias(node)
    if found is None:
        return None
    values, scales = stored_bias(constants[found.bias.name], constants[found.weight_scales.name], found.input_scale)
    return found.bias, integers(values.numpy(), scales.numpy(), np.zeros(len(values)), 0)


def with_stored_biases(program: ExportedProgram) -> fx.GraphModule:
    """The module of ``program`` with the bias of every integer layer as the int32 of the file stands for it."""
    module = program.module()
    for node in module.graph.nodes:
        if (found := float_bias(node)) is not None:
            owner, _, leaf = str(found.bias.target).rpartition(".")
            bias, scales = _tensor(module, found.bias), _tensor(module, found.weight_scales)
            values, steps = stored_bias(bias, scales, found.input_scale)
            # In float64 first: an int32 has more digits than a float32.
            _replace(module.get_submodule(owner), leaf, (values.to(torch.float64) * steps.to(torch.float64)).float())
    return module


def _tensor(module: fx.GraphModule, node: fx.Node) -> Tensor:
    owner, _, leaf = str(node.target).rpartition(".")
    tensor = getattr(module.get_submodule(owner), leaf)
    assert isinstance(tensor, Tensor)
    return tensor.detach()


def _replace(owner: nn.Module, name: str, tensor: Tensor) -> None:
    is_parameter = isinstance(getattr(owner, name), nn.Parameter)
    setattr(owner, name, nn.Parameter(tensor, requires_grad=False) if is_parameter else tensor)
