"""From the reference model to the one that is shipped: the same function, shaped for the three backends.

Every BatchNorm (Jacob et al. 2018, arXiv:1712.05877, section 3.2), the query scale ``key_dim ** -0.5`` and the average
of the two heads are folded into the weights. Other differences from ``model.py``, and the reasons for them:

* q, k and v are separate layers, so each gets its own quantization parameters and nothing needs to be split;
* the attention bias is a constant [heads, N_q, N_k], so no bias is looked up at run time;
* tokens are rows of one matrix [B * N, C], so every layer is a plain matrix product with a bias;
* selecting every second query and the layer behind it are one 1x1 convolution of stride 2;
* the pooling is a mean over the last two axes of a 4-D tensor.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from levit_edge.families.levit.config import SUBSAMPLE_STRIDE, LevitConfig
from levit_edge.families.levit.model import Attention, ConvNorm, Levit, LinearNorm, Mlp, NormLinear, SubsampleAttention

Norm = nn.BatchNorm1d | nn.BatchNorm2d


def _affine(norm: Norm) -> tuple[Tensor, Tensor]:
    """A BatchNorm as ``x * scale + shift``: two float64 [C]."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def _linear(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> nn.Linear:
    c_out, c_in = weight.shape
    layer = nn.Linear(c_in, c_out, device="meta", dtype=dtype).to_empty(device="cpu")  # draws no random numbers
    layer.load_state_dict({"weight": weight.to(dtype), "bias": bias.to(dtype)})
    return layer


def _conv(weight: Tensor, bias: Tensor, stride: int, padding: int, dtype: torch.dtype) -> nn.Conv2d:
    c_out, c_in, kernel, _ = weight.shape
    layer = nn.Conv2d(c_in, c_out, kernel, stride, padding, device="meta", dtype=dtype).to_empty(device="cpu")
    layer.load_state_dict({"weight": weight.to(dtype), "bias": bias.to(dtype)})
    return layer


def _fold(layer: LinearNorm) -> tuple[Tensor, Tensor]:
    """Weight float64 [C_out, C_in] and bias float64 [C_out] of a Linear followed by a BatchNorm."""
    scale, shift = _affine(layer.norm)
    return layer.linear.weight.double() * scale[:, None], shift


def _fold_conv(layer: ConvNorm) -> nn.Conv2d:
    scale, shift = _affine(layer.norm)
    weight = layer.conv.weight.double() * scale[:, None, None, None]
    return _conv(weight, shift, layer.conv.stride[0], int(layer.conv.padding[0]), layer.conv.weight.dtype)


def _fold_linear(layer: LinearNorm) -> nn.Linear:
    return _linear(*_fold(layer), layer.linear.weight.dtype)


def _fold_parts(layer: LinearNorm, heads: int, widths: list[int]) -> list[tuple[Tensor, Tensor]]:
    """The folded layer, split into layers that take ``widths`` rows of each head.

    Each is (weight float64 [heads * width, C_in], bias float64 [heads * width]).
    """
    weight, bias = _fold(layer)
    rows = weight.unflatten(0, (heads, -1)).split(widths, dim=1)  # each [H, width, C_in]
    shifts = bias.unflatten(0, (heads, -1)).split(widths, dim=1)  # each [H, width]
    return [(w.flatten(0, 1), b.flatten()) for w, b in zip(rows, shifts, strict=True)]


def _average_heads(heads: list[NormLinear]) -> nn.Linear:
    folded = []
    for head in heads:
        scale, shift = _affine(head.norm)
        weight = head.linear.weight.double()
        folded.append((weight * scale, weight @ shift + head.linear.bias.double()))
    weight = torch.stack([w for w, _ in folded]).mean(dim=0)
    bias = torch.stack([b for _, b in folded]).mean(dim=0)
    return _linear(weight, bias, heads[0].linear.weight.dtype)


def split_heads(x: Tensor, batch: int, heads: int, *, transposed: bool = False) -> Tensor:
    """[B * N, H * D] -> [B * H, N, D], or [B * H, D, N] when ``transposed``, in one permutation.

    For one image no batch axis is made at all, because every reshape costs time on a device.
    """
    if batch == 1:
        x = x.unflatten(1, (heads, -1))  # [N, H, D]
        return x.permute(1, 2, 0) if transposed else x.permute(1, 0, 2)
    x = x.unflatten(1, (heads, -1)).unflatten(0, (batch, -1))  # [B, N, H, D]
    order = (0, 2, 3, 1) if transposed else (0, 2, 1, 3)
    return x.permute(*order).flatten(0, 1)  # [B, H, …] -> [B * H, …]


def merge_heads(x: Tensor, batch: int) -> Tensor:
    """[B * H, N, D] -> [B * N, H * D]: the inverse of :func:`split_heads`."""
    if batch == 1:
        return x.permute(1, 0, 2).flatten(1)  # [N, H, D] -> [N, H * D]
    x = x.unflatten(0, (batch, -1)).permute(0, 2, 1, 3)  # [B, N, H, D]
    return x.flatten(0, 1).flatten(1)


class FusedAttention(nn.Module):
    """Either attention of LeViT, without its residual. Tokens [B * N, C] -> [B * N_q, C_out]."""

    bias: Tensor

    def __init__(self, source: Attention | SubsampleAttention) -> None:
        super().__init__()
        self.heads = source.heads
        self.side = source.side_in if isinstance(source, SubsampleAttention) else 0  # 0: every token is a query
        key, value, dtype = source.key_dim, source.value_dim, source.proj.linear.weight.dtype
        if isinstance(source, SubsampleAttention):
            q = _fold(source.q)
            k, v = _fold_parts(source.kv, source.heads, [key, value])
        else:
            q, k, v = _fold_parts(source.qkv, source.heads, [key, key, value])
        weight, bias = (part * key**-0.5 for part in q)
        if self.side:
            self.q: nn.Module = _conv(weight[:, :, None, None], bias, SUBSAMPLE_STRIDE, 0, dtype)
        else:
            self.q = _linear(weight, bias, dtype)
        self.k, self.v = _linear(*k, dtype), _linear(*v, dtype)
        self.proj = _fold_linear(source.proj)
        self.register_buffer("bias", source.bias.detach()[:, source.offsets])  # [H, N_q, N_k], a copy

    def queries(self, x: Tensor, batch: int) -> Tensor:
        """[B * N, C] -> [B * N_q, H * K]; a subsampling attention keeps every second row and column."""
        if self.side == 0:
            return self.q(x)
        grid = x.view(batch, self.side, self.side, x.shape[1]).permute(0, 3, 1, 2)  # [B, C, side, side]
        return self.q(grid).permute(0, 2, 3, 1).flatten(0, 2)  # [B, H * K, s, s] -> [B * N_q, H * K]

    def forward(self, x: Tensor, batch: int) -> Tensor:
        q = split_heads(self.queries(x, batch), batch, self.heads)  # [B * H, N_q, K]
        k = split_heads(self.k(x), batch, self.heads, transposed=True)  # [B * H, K, N_k]
        v = split_heads(self.v(x), batch, self.heads)  # [B * H, N_k, V]
        weights = self.biased(torch.bmm(q, k), batch).softmax(dim=-1)
        return self.proj(F.hardswish(merge_heads(torch.bmm(weights, v), batch)))

    def biased(self, scores: Tensor, batch: int) -> Tensor:
        """[B * H, N_q, N_k] with the attention bias added."""
        if batch == 1:
            return scores + self.bias
        return (scores.unflatten(0, (batch, -1)) + self.bias).flatten(0, 1)  # [B, H, N_q, N_k] in between


class FusedMlp(nn.Module):
    """The MLP of LeViT, without its residual. Tokens [B * N, C] -> [B * N, C]."""

    def __init__(self, source: Mlp) -> None:
        super().__init__()
        self.up, self.down = _fold_linear(source.up), _fold_linear(source.down)

    def forward(self, x: Tensor, batch: int) -> Tensor:
        del batch  # every token is computed on its own
        return self.down(F.hardswish(self.up(x)))


def _fused_block(block: nn.Module) -> nn.Module:
    if isinstance(block, Mlp):
        return FusedMlp(block)
    assert isinstance(block, Attention | SubsampleAttention)
    return FusedAttention(block)


class FusedLevit(nn.Module):
    """The deployable model, in eval mode: [B, channels, image_size, image_size] -> logits [B, classes].

    The result is the pooled feature [B, C] when the model has no head.
    """

    def __init__(self, source: Levit) -> None:
        super().__init__()
        self.config: LevitConfig = source.config
        self.side = source.config.resolutions[-1]
        self.stem = nn.ModuleList(_fold_conv(cast("ConvNorm", layer)) for layer in source.stem)
        self.blocks = nn.ModuleList(_fused_block(block) for block in source.blocks)
        self.residual = [not isinstance(block, SubsampleAttention) for block in source.blocks]
        self.head = _average_heads([cast("NormLinear", head) for head in source.heads]) if source.heads else None
        self.requires_grad_(False)
        self.eval()

    def forward(self, pixel_values: Tensor) -> Tensor:
        x, batch = pixel_values, pixel_values.shape[0]
        for index, layer in enumerate(self.stem):
            x = layer(F.hardswish(x) if index else x)  # [B, C, H, W], halved each time
        x = x.permute(0, 2, 3, 1).flatten(0, 2)  # [B, C, H, W] -> [B * N, C]
        for block, residual in zip(self.blocks, self.residual, strict=True):
            x = x + block(x, batch) if residual else block(x, batch)
        x = x.view(batch, self.side, self.side, x.shape[1]).permute(0, 3, 1, 2)  # [B, C, side, side]
        x = x.mean((2, 3), keepdim=True).flatten(1)  # [B, C]
        return x if self.head is None else self.head(x)


def fuse(model: Levit) -> FusedLevit:
    """The deployable form of ``model``, which stays as it is; folded in float64 and stored in the model's dtype."""
    with torch.no_grad():
        return FusedLevit(model)
