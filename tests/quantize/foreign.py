"""A small transformer with what the fused LeViT lacks: whatever has no role in it must stay float."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn import functional as F

from quantize.flow import calibrate, quantize, trace
from quantize.statistics import Histogram
from targets.registry import TARGETS
from tests.programs import FULL, PLANS, run

SIDE, PATCH, WIDTH, HEADS, CLASSES = 16, 4, 24, 2, 5
TOKENS = (SIDE // PATCH) ** 2


class Biased(nn.Module):
    """Attention out of matmuls, with a constant added to its scores; its k has no bias. [1, N, C] -> [1, N, C]."""

    bias: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH, bias=False)
        self.v, self.proj = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.register_buffer("bias", torch.zeros(HEADS, TOKENS, TOKENS))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split(layer(x)) for layer in (self.q, self.k, self.v))  # [1, H, N, D]
        scores = q @ k.transpose(-2, -1) * (WIDTH // HEADS) ** -0.5 + self.bias  # [1, H, N, N]
        x = scores.softmax(dim=-1) @ v  # [1, H, N, D]
        return self.proj(x.transpose(1, 2).flatten(2))  # [1, H, N, D] -> [1, N, C]


class Merged(nn.Module):
    """Attention in one operator, with q, k and v out of one layer. [1, N, C] -> [1, N, C]."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split(part) for part in self.qkv(x).chunk(3, dim=-1))  # [1, H, N, D]
        x = F.scaled_dot_product_attention(q, k, v)  # [1, H, N, D]
        return self.proj(x.transpose(1, 2).reshape(1, TOKENS, WIDTH))  # [1, H, N, D] -> [1, N, C]


def split(x: Tensor) -> Tensor:
    return x.view(1, TOKENS, HEADS, -1).transpose(1, 2)  # [1, N, C] -> [1, H, N, D]


class Foreign(nn.Module):
    """[1, 3, SIDE, SIDE] -> logits [1, CLASSES]."""

    three: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.positions = nn.Parameter(torch.zeros(1, TOKENS, WIDTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(4))
        self.biased, self.merged = Biased(), Merged()
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.gate, self.squeeze = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.register_buffer("three", torch.tensor([3.0]))
        self.head = nn.Linear(WIDTH, CLASSES, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches((image - 0.1) / 0.9)  # [1, C, side, side]
        x = x.flatten(2).transpose(1, 2) + self.positions  # [1, C, side, side] -> [1, N, C]
        x = x + self.biased(self.norms[0](x))
        x = x + self.merged(self.norms[1](x))
        x = x + self.down(F.gelu(self.up(self.norms[2](x))))
        x = x * torch.sigmoid(self.gate(x))
        centred = x - x.mean(dim=-1, keepdim=True)
        x = torch.cat([x, centred * (centred + self.three)], dim=1)  # [1, 2 * N, C]
        x = self.norms[3](x)[:, :TOKENS]  # [1, N, C]
        pooled = x.mean(dim=1)  # [1, C]
        logits: Tensor = self.head(F.relu(self.squeeze(pooled)) + x[:, 0])
        return logits


@dataclass(frozen=True)
class Scene:
    """``calibration`` and ``images`` are different standard normal pixels [B, 3, SIDE, SIDE]."""

    program: ExportedProgram
    calibration: Tensor
    images: Tensor
    histograms: Mapping[str, Histogram]

    @property
    def logits(self) -> NDArray[np.float32]:
        """The float model's answer to ``images``."""
        return run(self.program, self.images)


@cache
def foreign() -> Scene:
    generator, model = torch.Generator().manual_seed(0), Foreign().eval().requires_grad_(False)
    for name, parameter in [*model.named_parameters(), ("bias", model.biased.bias)]:
        scale = parameter[0].numel() ** -0.5 if parameter.dim() > 1 and "position" not in name else 0.3
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale + ("norms" in name))
    images = torch.randn(24, 3, SIDE, SIDE, generator=generator)
    program, calibration = trace(model, images[:1]), images[:16]
    return Scene(program, calibration, images[16:], calibrate(program, [calibration]))


@cache
def foreign_quantized(target: str, recipe: str = FULL.name) -> ExportedProgram:
    scene = foreign()
    return quantize(scene.program, scene.images[:1], PLANS[recipe], TARGETS[target].scheme, scene.histograms)
