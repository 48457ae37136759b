"""A program whose channels are about equally wide, and that computes the same as before.

An activation has one scale, so a single wide channel takes most of its 8 bits from all others. Nothing in training
prevents that: a channel that is 30 times as wide and is read with weights of 1/30 is the same function. Here the layer
that makes such a channel is divided by a factor, and all that read it are multiplied by it.
:mod:`quantize.channels` proves where that changes nothing, and :mod:`quantize.channel_factors` chooses the factors.
They are powers of two, so that not even the last bit of the float model changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from quantize.channel_factors import Side, Sum, channel_factors
from quantize.channels import Channels, Operand, follow
from quantize.hardswish import constant_value
from quantize.roles import layer_operands
from quantize.statistics import See, show

RESCALING_IMAGES = 32  # enough to tell a channel that is many times as wide as the others


def rescaled_parameters(program: ExportedProgram, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """The weights and biases of ``program`` that change, by name; none where no channel is too wide.

    ``batches`` are float32 [B, C, H, W]; RESCALING_IMAGES are enough. Without any image, nothing changes.
    """
    module = program.module()
    channels = follow(module, program.state_dict)
    if not channels.count or not channels.contractions:
        return {}
    spreads = {operand.key: _Spread(operand) for operand in channels.operands}
    see: dict[str, list[See]] = defaultdict(list)
    for (node, _), spread in spreads.items():
        see[node.name].append(spread.add)
    if not show(module, see, batches):
        return {}
    sums = [
        Sum(
            groups=channels.groups[found.left.channels],
            signs=channels.signs[found.left.channels],
            left=spreads[found.left.key].side,
            right=_weight_side(module, found.operator) if found.right is None else spreads[found.right.key].side,
        )
        for found in channels.contractions
    ]
    return _divided(module, channels, channel_factors(sums, channels.count))


def with_parameters(program: ExportedProgram, parameters: Mapping[str, Tensor]) -> ExportedProgram:
    """``program`` with other values of some of its ``parameters``; itself where there is none."""
    if not parameters:
        return program
    state = dict(program.state_dict)
    state.update({name: nn.Parameter(value, requires_grad=False) for name, value in parameters.items()})
    return ExportedProgram(
        root=program.graph_module,
        graph=program.graph,
        graph_signature=program.graph_signature,
        state_dict=state,
        range_constraints=program.range_constraints,
        module_call_graph=program.module_call_graph,
        example_inputs=program.example_inputs,
        constants=program.constants,
    )


@dataclass
class _Spread:
    """How wide the channels of an operand are, over all images so far."""

    operand: Operand
    images: int = 0
    peak: Tensor | float = 0.0
    square: Tensor | float = 0.0

    def add(self, values: Tensor) -> None:
        """Of one image."""
        along = self.operand.along
        self.images += 1
        self.peak = torch.maximum(values.abs().amax(along).flatten().double(), torch.as_tensor(self.peak))
        self.square = self.square + values.square().mean(along).flatten().double()

    @property
    def side(self) -> Side:
        """The only row of an operand that has one scale."""
        return Side(torch.as_tensor(self.peak)[None], torch.as_tensor(self.square)[None] / self.images)


def _weight_side(module: fx.GraphModule, layer: fx.Node) -> Side:
    """Each row of the weight of ``layer`` has its scale; a kernel of several pixels counts as one element."""
    weight = constant_value(module, layer_operands(layer)[1]).detach().double()
    elements = weight.flatten(2) if weight.dim() > 2 else weight[:, :, None]  # [C_out, C_in, pixels]
    return Side(elements.abs().amax(2), elements.square().sum(2))


def _divided(module: fx.GraphModule, channels: Channels, factors: Tensor) -> dict[str, Tensor]:
    """Rows of weights and biases divided by their factors, columns multiplied: all that change, by name."""
    found: dict[str, Tensor] = {}

    def multiply(constant: fx.Node, multipliers: Tensor, axis: int) -> None:
        if bool((multipliers != 1).any()):
            name = str(constant.target)
            before = found.get(name, constant_value(module, constant).detach())
            shape = [-1 if place == axis else 1 for place in range(before.dim())]
            found[name] = before * multipliers.to(before.dtype).view(shape)

    for layer, rows in channels.rows.items():
        for constant in layer_operands(layer)[1:]:
            if constant is not None:
                multiply(constant, 1 / channels.divisors(rows, factors), 0)
    for contraction in channels.contractions:
        if contraction.right is None:
            divisors = channels.divisors(contraction.left.channels, factors)
            multiply(layer_operands(contraction.operator)[1], divisors, 1)
    return found
