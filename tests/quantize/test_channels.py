"""Where a factor for each channel changes nothing: proven by the graph, and checked with random factors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn import functional as F

from quantize.channels import FIXED, Channels, follow
from quantize.flow import trace
from quantize.names import layer_name
from quantize.rescaling import _divided, with_parameters
from quantize.roles import layer_operands
from tests.programs import micro, run
from tests.quantize.foreign import foreign

SIDE = 4  # as many pixels as channels: no shape tells one axis from another
CHANNELS = SIDE**2


def channels_of(program: ExportedProgram) -> Channels:
    return follow(program.module(), program.state_dict)


def rescaled(program: ExportedProgram, channels: Channels, seed: int = 0) -> ExportedProgram:
    """``program`` with a random power of two for each group."""
    generator = torch.Generator().manual_seed(seed)
    factors = torch.exp2(torch.randint(-6, 7, (channels.count,), generator=generator).double())
    return with_parameters(program, _divided(program.module(), channels, factors))


def free_rows(program: ExportedProgram) -> dict[str, bool]:
    """For each layer, whether all channels that it makes can be rescaled; none of them may differ from the others."""
    channels = channels_of(program)
    found = {}
    for layer, rows in channels.rows.items():
        (free,) = {bool(group != FIXED) for group in channels.groups[rows]}
        found[layer_name(layer)] = free
    return found


def test_random_factors_leave_every_logit_as_it_was() -> None:
    program = micro().program
    channels = channels_of(program)
    changed = rescaled(program, channels)
    assert np.array_equal(run(changed, micro().images), run(program, micro().images))
    for layer, rows in channels.rows.items():
        free = bool((channels.groups[rows] != FIXED).any())
        name = str(layer_operands(layer)[1].target)
        read_only = torch.equal(changed.state_dict[name], program.state_dict[name])
        assert free != read_only or name.endswith(("v.weight", "up.weight", "head.weight")), name


def test_the_groups_of_the_model_are_its_streams_and_its_queries() -> None:
    program = micro().program
    channels = channels_of(program)
    free = {name for name, is_free in free_rows(program).items() if is_free}
    makers = {name for name in free_rows(program) if name.endswith((".q", ".k", ".proj", ".down"))}
    assert free == makers | {"stem.3"}
    streams, heads = sum(micro().model.config.hidden_sizes), sum(block.q.weight.shape[0] for block in _attentions())
    assert channels.count == streams + heads


def _attentions() -> list[nn.Module]:
    return [block for block in micro().model.blocks if hasattr(block, "q")]


def test_the_batched_program_takes_the_same_parameters() -> None:
    program, images = micro().program, micro().images[:4]
    channels = channels_of(program)
    factors = torch.full((channels.count,), 4.0, dtype=torch.float64)
    batched = with_parameters(trace(micro().model, images), _divided(program.module(), channels, factors))
    with torch.no_grad():
        assert torch.allclose(batched.module()(images), micro().model(images), rtol=1e-5, atol=1e-5)


def test_of_a_foreign_model_only_what_is_proven_changes() -> None:
    program = foreign().program
    free = {name for name, is_free in free_rows(program).items() if is_free}
    assert free == {"biased.q", "biased.k"}  # all else ends in a LayerNorm, a constant or a softmax
    assert np.array_equal(run(rescaled(program, channels_of(program)), foreign().images), foreign().logits)


class Between(nn.Module):
    """Two layers with ``between`` in the middle; the input is [1, CHANNELS, SIDE, SIDE]."""

    scale: Tensor

    def __init__(self, between: Callable[[Between, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.other = (nn.Conv2d(CHANNELS, CHANNELS, 1) for _ in range(2))
        self.grouped = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=4)
        self.second = nn.Linear(CHANNELS, CHANNELS)
        self.register_buffer("scale", torch.linspace(0.5, 2, CHANNELS))
        self.between = between

    def forward(self, image: Tensor) -> Tensor:
        return F.hardswish(self.between(self, image))


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)  # [1, C, H, W] -> [1, N, C]


LINEAR: dict[str, Callable[[Between, Tensor], Tensor]] = {
    "tokens": lambda model, x: model.second(tokens(model.first(x))),
    "subsampled": lambda model, x: model.second(tokens(model.first(x)[:, :, ::2, ::2])),
    "one pixel": lambda model, x: model.second(model.first(x).select(3, 1).select(2, 1)),
    "mean over tokens": lambda model, x: model.second(tokens(model.first(x)).mean(1)),
    "mean over pixels": lambda model, x: model.second(model.first(x).mean((2, 3), keepdim=True).flatten(1)),
    "sum": lambda model, x: model.second(tokens(model.first(x) + model.other(x))),
    "sum with itself": lambda model, x: model.second(tokens(torch.add(y := model.first(x), y, alpha=3))),
    # Every channel is added to every other one, so that all have one factor.
    "sum over axes": lambda model, x: model.second((y := tokens(model.first(x))) + y.transpose(1, 2)),
    "attention": lambda model, x: (tokens(model.first(x)) @ tokens(model.other(x)).transpose(1, 2)).softmax(-1),
}
FIXED_BY: dict[str, Callable[[Between, Tensor], Tensor]] = {
    "hardswish": lambda model, x: model.second(tokens(F.hardswish(model.first(x)))),
    "softmax": lambda model, x: model.second(tokens(model.first(x)).softmax(-1)),
    "layer norm": lambda model, x: model.second(F.layer_norm(tokens(model.first(x)), [CHANNELS])),
    "pixels are columns": lambda model, x: model.second(model.first(x).flatten(2)),
    "mean over channels": lambda model, x: model.second(tokens(model.first(x).mean(1, keepdim=True).expand_as(x))),
    "sum with a constant": lambda model, x: model.second(tokens(model.first(x)) + model.scale),
    "sum with a hardswish": lambda model, x: model.second(tokens(model.first(x) + F.hardswish(x))),
    "sum with another order": lambda model, x: model.second((y := tokens(model.first(x))) + y.flip(2)),
    "sum with what a hardswish reads": lambda model, x: (
        tokens(F.hardswish(y := model.other(x))) + model.second(tokens(model.first(x) + y))
    ),
    "grouped convolution": lambda model, x: model.second(tokens(model.grouped(model.first(x)))),
    "shared weight": lambda model, x: model.second(model.second(tokens(model.first(x)))),
    "one tensor twice": lambda model, x: ((y := tokens(model.first(x))) @ y.transpose(1, 2)).softmax(-1),
    "product over tokens": lambda model, x: tokens(model.first(x)).transpose(1, 2) @ tokens(model.other(x)),
    "the answer, too": lambda model, x: torch.cat([model.second(y := tokens(model.first(x))), y]),
}


def between(operators: Callable[[Between, Tensor], Tensor]) -> tuple[ExportedProgram, Tensor]:
    torch.manual_seed(0)
    image = torch.randn(1, CHANNELS, SIDE, SIDE)
    return trace(Between(operators).eval().requires_grad_(False), image), image


@pytest.mark.parametrize("name", LINEAR)
def test_what_is_linear_in_each_channel_is_free(name: str) -> None:
    program, image = between(LINEAR[name])
    assert free_rows(program)["first"]
    changed = rescaled(program, channels_of(program))
    assert not torch.equal(changed.state_dict["first.weight"], program.state_dict["first.weight"])
    assert np.array_equal(run(changed, image), run(program, image))


@pytest.mark.parametrize("name", FIXED_BY)
def test_what_is_not_proven_linear_stays_as_it_is(name: str) -> None:
    program, image = between(FIXED_BY[name])
    assert not free_rows(program)["first"]
    changed = rescaled(program, channels_of(program))
    assert torch.equal(changed.state_dict["first.weight"], program.state_dict["first.weight"])
    assert np.array_equal(run(changed, image), run(program, image))
