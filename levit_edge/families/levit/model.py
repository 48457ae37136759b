"""The reference LeViT in eval mode: the network of the paper, unfused, as the published checkpoints describe it.

Source: Graham et al., "LeViT: a Vision Transformer in ConvNet's Clothing for Faster Inference", arXiv:2104.01136,
section 4. Parameter names are this project's own; ``key_layouts.py`` maps the published layouts onto them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import hardswish

from levit_edge.errors import InputError
from levit_edge.families.levit.config import (
    STEM_CONVOLUTIONS,
    SUBSAMPLE_ATTENTION_RATIO,
    SUBSAMPLE_MLP_RATIO,
    SUBSAMPLE_STRIDE,
    LevitConfig,
)


class LevitOutput(NamedTuple):
    """What transformers' three model classes return, in one record.

    ``last_hidden_state`` is [B, N, C] and ``pooled`` [B, C]. ``logits`` [B, classes] is the output of the only head or
    the average of two; ``cls_logits`` and ``distill_logits`` are those two. What a model has no head for is None.
    """

    last_hidden_state: Tensor
    pooled: Tensor
    logits: Tensor | None
    cls_logits: Tensor | None
    distill_logits: Tensor | None


def offset_index(side_out: int, side_in: int, stride: int) -> Tensor:
    """Index of the attention bias for each (query, key) pair: int64 [side_out ** 2, side_in ** 2].

    Offsets ``(|dy|, |dx|)`` on the key grid are numbered row by row, the order of every published checkpoint.
    """
    rows = (torch.arange(side_out)[:, None] * stride - torch.arange(side_in)[None, :]).abs()  # [out, in]
    grid = rows[:, None, :, None] * side_in + rows[None, :, None, :]  # [out_y, out_x, in_y, in_x]
    return grid.reshape(side_out**2, side_in**2)


class ConvNorm(nn.Module):
    """Convolution without bias, then BatchNorm. [B, C_in, H, W] -> [B, C_out, H', W']."""

    def __init__(self, c_in: int, c_out: int, config: LevitConfig) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, config.kernel_size, config.stride, config.padding, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class LinearNorm(nn.Module):
    """Linear without bias, then BatchNorm over the channels. [B, N, C_in] -> [B, N, C_out]."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(c_in, c_out, bias=False)
        self.norm = nn.BatchNorm1d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)  # [B, N, C_out]
        return self.norm(x.flatten(0, 1)).reshape_as(x)  # BatchNorm1d sees [B * N, C_out]


class NormLinear(nn.Module):
    """A classification head: BatchNorm, then Linear. [B, C] -> [B, classes]."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.norm(x))


class AttentionCore(nn.Module):
    """What both attentions share: scaled scores with a learned bias per offset, then Hardswish and projection."""

    offsets: Tensor

    def __init__(self, c_out: int, heads: int, key_dim: int, ratio: int, offsets: Tensor) -> None:
        super().__init__()
        self.heads, self.key_dim, self.value_dim = heads, key_dim, ratio * key_dim
        self.bias = nn.Parameter(torch.zeros(heads, int(offsets.max()) + 1))
        self.register_buffer("offsets", offsets, persistent=False)
        self.proj = LinearNorm(heads * self.value_dim, c_out)

    def split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)  # [B, N, H * D] -> [B, H, N, D]

    def score_bias(self) -> Tensor:
        return self.bias[:, self.offsets]  # [H, N_q, N_k]

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [B, H, N_q, K], k [B, H, N_k, K], v [B, H, N_k, V] -> [B, N_q, C_out]."""
        scores = q @ k.transpose(-2, -1) * self.key_dim**-0.5 + self.score_bias()  # [B, H, N_q, N_k]
        x = scores.softmax(dim=-1) @ v  # [B, H, N_q, V]
        return self.proj(hardswish(x.transpose(1, 2).flatten(2)))  # [B, N_q, H * V] -> [B, N_q, C_out]


class Attention(AttentionCore):
    """Multi-head self-attention with a residual. [B, N, C] -> [B, N, C]."""

    def __init__(self, channels: int, heads: int, key_dim: int, ratio: int, side: int) -> None:
        super().__init__(channels, heads, key_dim, ratio, offset_index(side, side, 1))
        self.qkv = LinearNorm(channels, heads * (2 * key_dim + self.value_dim))

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.split_heads(self.qkv(x))  # [B, H, N, 2 * K + V]
        q, k, v = qkv.split([self.key_dim, self.key_dim, self.value_dim], dim=3)
        return x + self.attend(q, k, v)


class SubsampleAttention(AttentionCore):
    """Attention between stages, without residual: every second row and column queries. [B, N, C] -> [B, N', C']."""

    def __init__(self, c_in: int, c_out: int, heads: int, key_dim: int, side_in: int, side_out: int) -> None:
        offsets = offset_index(side_out, side_in, SUBSAMPLE_STRIDE)
        super().__init__(c_out, heads, key_dim, SUBSAMPLE_ATTENTION_RATIO, offsets)
        self.side_in = side_in
        self.q = LinearNorm(c_in, heads * key_dim)
        self.kv = LinearNorm(c_in, heads * (key_dim + self.value_dim))

    def forward(self, x: Tensor) -> Tensor:
        grid = x.unflatten(1, (self.side_in, self.side_in))  # [B, side, side, C]
        queries = grid[:, ::SUBSAMPLE_STRIDE, ::SUBSAMPLE_STRIDE].flatten(1, 2)  # [B, N', C]
        k, v = self.split_heads(self.kv(x)).split([self.key_dim, self.value_dim], dim=3)
        return self.attend(self.split_heads(self.q(queries)), k, v)


class Mlp(nn.Module):
    """Two-layer MLP with a residual. [B, N, C] -> [B, N, C]."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.up = LinearNorm(channels, channels * ratio)
        self.down = LinearNorm(channels * ratio, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(hardswish(self.up(x)))


def stem_channels(config: LevitConfig) -> list[tuple[int, int]]:
    """(in, out) channels of the four stem convolutions: each but the first doubles, up to hidden_sizes[0]."""
    widths = [config.hidden_sizes[0] // 2**power for power in reversed(range(STEM_CONVOLUTIONS))]
    return list(zip([config.num_channels, *widths[:-1]], widths, strict=True))


def _blocks(config: LevitConfig) -> list[nn.Module]:
    blocks: list[nn.Module] = []
    sides = config.resolutions
    for stage, channels in enumerate(config.hidden_sizes):
        heads, key_dim = config.num_attention_heads[stage], config.key_dim[stage]
        for _ in range(config.depths[stage]):
            blocks.append(Attention(channels, heads, key_dim, config.attention_ratio[stage], sides[stage]))
            if config.mlp_ratio[stage]:
                blocks.append(Mlp(channels, config.mlp_ratio[stage]))
        if stage + 1 < len(config.hidden_sizes):
            c_out = config.hidden_sizes[stage + 1]
            heads, key_dim = config.subsample_heads(stage), config.key_dim[0]
            blocks.append(SubsampleAttention(channels, c_out, heads, key_dim, sides[stage], sides[stage + 1]))
            blocks.append(Mlp(c_out, SUBSAMPLE_MLP_RATIO))
    return blocks


class Levit(nn.Module):
    """The reference model, always in eval mode. float [B, channels, image_size, image_size] -> LevitOutput.

    ``heads`` is 0 (a backbone), 1, or 2 (a classification and a distillation head). Any batch size.
    """

    def __init__(self, config: LevitConfig, heads: int = 2) -> None:
        super().__init__()
        if heads and not config.num_labels:
            raise InputError(f"{heads} heads need labels; the config has none (a backbone has 0 heads)")
        self.config = config
        self.stem = nn.ModuleList(ConvNorm(c_in, c_out, config) for c_in, c_out in stem_channels(config))
        self.blocks = nn.ModuleList(_blocks(config))
        self.heads = nn.ModuleList(NormLinear(config.hidden_sizes[-1], config.num_labels) for _ in range(heads))
        self.eval()

    def train(self, mode: bool = True) -> Levit:
        """Stay in eval mode; RuntimeError for training mode, which would change the BatchNorm statistics."""
        if mode:
            raise RuntimeError("Levit is an inference model; it stays in eval mode")
        return super().train(False)

    def forward(self, pixel_values: Tensor) -> LevitOutput:
        x = pixel_values
        for index, layer in enumerate(self.stem):
            x = layer(hardswish(x) if index else x)  # [B, C, H, W], halved each time
        x = x.flatten(2).transpose(1, 2)  # [B, C, H, W] -> [B, N, C]
        for block in self.blocks:
            x = block(x)
        pooled = x.mean(dim=1)  # [B, C]
        logits = [head(pooled) for head in self.heads]
        both = logits if len(logits) == 2 else [None, None]
        average = torch.stack(logits).mean(dim=0) if logits else None
        return LevitOutput(x, pooled, average, both[0], both[1])


def random_model(config: LevitConfig, heads: int = 2, seed: int = 0) -> Levit:
    """A model whose weights and BatchNorm statistics are random and depend on ``seed`` alone."""
    model = Levit(config, heads)
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor: Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                uniform(module.weight, 0.5, 1.5)
                uniform(module.bias, -0.2, 0.2)
                uniform(module.get_buffer("running_mean"), -0.2, 0.2)
                uniform(module.get_buffer("running_var"), 0.5, 1.5)
            elif isinstance(module, nn.Linear | nn.Conv2d):
                bound = (3 / module.weight[0].numel()) ** 0.5
                uniform(module.weight, -bound, bound)
                if module.bias is not None:
                    uniform(module.bias, -0.1, 0.1)
            elif isinstance(module, AttentionCore):
                uniform(module.bias, -0.5, 0.5)
        for block in model.modules():  # each residual branch adds little, so that activations and logits stay near 1
            if isinstance(block, Attention | Mlp):
                last = block.proj if isinstance(block, Attention) else block.down
                last.norm.weight.mul_(0.3)
    return model
