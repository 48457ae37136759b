"""Small networks with the parts of LeViT, DeiT and ViT Hybrid, as torch writes them before anything is fused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGE, TOKENS = (1, 3, 16, 16), (1, 16, 8)


class ConvolutionsOfLevit(nn.Module):
    """Convolutions with hardswish, subsampling by average pooling and by strides, and a head behind a BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.pool = nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)
        self.norm, self.head = nn.BatchNorm1d(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        """[1, 3, 16, 16] -> [1, 5]."""
        x = self.stem(x)  # [1, 8, 8, 8]
        x = self.pool(x) + x[:, :, ::2, ::2]  # [1, 8, 4, 4]
        return self.head(self.norm(x.flatten(2).mean(2)))  # type: ignore[no-any-return]  # [1, 8, 16] -> [1, 8]


class AttentionOfLevit(nn.Module):
    """Attention whose queries, keys and values are parts of different sizes of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.norm = nn.Linear(8, 2 * (2 + 2 + 4)), nn.BatchNorm1d(16)
        self.biases = nn.Parameter(torch.zeros(2, 16, 16))

    def forward(self, x: Tensor) -> Tensor:
        """[1, 16, 8] -> [1, 16, 8]."""
        x = self.norm(self.qkv(x).flatten(0, 1)).reshape(1, 16, 2, 8)  # [16, 16] -> [1, N, heads, 8]
        q, k, v = x.split([2, 2, 4], dim=3)
        q, k, v = q.permute(0, 2, 1, 3), k.permute(0, 2, 3, 1), v.permute(0, 2, 1, 3)  # [1, heads, N, D], k [.., D, N]
        attention = (q @ k * 2**-0.5 + self.biases).softmax(dim=-1)
        return (attention @ v).transpose(1, 2).reshape(1, 16, 8)  # [1, heads, N, 4] -> [1, N, 8]


class Deit(nn.Module):
    """A class token and a distillation token, one transformer block with layer scale, and two averaged heads."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Parameter(torch.randn(1, 2, 8)), nn.Parameter(torch.randn(1, 18, 8))
        self.norms = nn.ModuleList(nn.LayerNorm(8, eps=1e-6) for _ in range(3))
        self.qkv, self.up, self.down = nn.Linear(8, 24), nn.Linear(8, 16), nn.Linear(16, 8)
        self.scale = nn.Parameter(torch.full((8,), 0.5))
        self.heads = nn.ModuleList(nn.Linear(8, 5) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """[1, 16, 8] -> [1, 5]."""
        x = torch.cat([self.tokens.expand(x.shape[0], -1, -1), x], dim=1) + self.positions  # [1, 18, 8]
        qkv = self.qkv(self.norms[0](x)).reshape(1, 18, 3, 2, 4).permute(2, 0, 3, 1, 4)  # [3, 1, heads, N, 4]
        q, k, v = qkv.unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(1, 18, 8)  # [1, N, heads, 4]
        x = x + self.scale * mixed
        x = self.norms[2](x + self.scale * self.down(F.gelu(self.up(self.norms[1](x)))))
        return (self.heads[0](x[:, 0]) + self.heads[1](x[:, 1])) / 2  # type: ignore[no-any-return]


class StemOfVitHybrid(nn.Module):
    """Weight-standardised convolutions and pooling with the padding of TensorFlow, GroupNorm and ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 7, bias=False), nn.Conv2d(8, 8, 3, bias=False)
        self.norms = nn.ModuleList(nn.GroupNorm(2, 8) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """[1, 3, 16, 16] -> [1, 4, 8]."""
        x = F.relu(self.norms[0](F.conv2d(F.pad(x, (2, 3, 2, 3)), _standardised(self.first), stride=2)))  # [1, 8, 8, 8]
        x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, stride=2)  # [1, 8, 4, 4]
        x = self.norms[1](F.conv2d(F.pad(x, (0, 1, 0, 1)), _standardised(self.second), stride=2))  # [1, 8, 2, 2]
        return x.flatten(2).transpose(1, 2)  # [1, 8, 4] -> [1, 4, 8]


def _standardised(conv: nn.Conv2d) -> Tensor:
    """The weight [C_out, C_in, K, K] with mean 0 and variance 1 in each output channel."""
    flat = conv.weight.reshape(1, conv.out_channels, -1)  # [1, C_out, C_in * K * K]
    return F.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-6).reshape_as(conv.weight)


class PlainAttention(nn.Module):
    """Attention written out as in Hugging Face transformers, and the pooler behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.pooler = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """[1, 16, 8] -> [1, 8]."""
        q, k, v = (layer(x).view(1, 16, 2, 4).transpose(1, 2) for layer in (self.q, self.k, self.v))  # [1, heads, N, 4]
        attention = F.softmax(q @ k.transpose(-1, -2) / 4**0.5, dim=-1)
        x = (attention @ v).transpose(1, 2).reshape(1, 16, 8)  # [1, heads, N, 4] -> [1, N, 8]
        return torch.tanh(self.pooler(x[:, 0]))


class Gelus(nn.Module):
    """GELU as one operator, written out with erf, and written out in its approximation with tanh.

    ``F.gelu(x, approximate="tanh")`` is absent: coremltools 9 converts it to the exact GELU.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        x = F.gelu(x)
        x = x * 0.5 * (1 + torch.erf(x / 2**0.5))
        return 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * torch.pow(x, 3.0))))


@dataclass(frozen=True)
class Network:
    """A module, its input shape, and the MIL operators that coremltools emits for it in float32, constants excluded."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    operators: str


NETWORKS = {
    "convolutions of LeViT": Network(
        ConvolutionsOfLevit,
        IMAGE,
        "conv thresholded_relu sigmoid_hard mul avg_pool slice_by_index add reshape reduce_mean "
        "expand_dims batch_norm squeeze linear",
    ),
    "attention of LeViT": Network(
        AttentionOfLevit,
        TOKENS,
        "linear reshape expand_dims batch_norm squeeze split transpose matmul mul softmax",
    ),
    "DeiT": Network(
        Deit,
        TOKENS,
        "concat add layer_norm linear reshape transpose split squeeze mul matmul softmax gelu slice_by_index",
    ),
    "stem of ViT Hybrid": Network(
        StemOfVitHybrid,
        IMAGE,
        "pad conv reshape reduce_mean sub square add sqrt real_div relu max_pool transpose",
    ),
    "plain attention and pooler": Network(
        PlainAttention,
        TOKENS,
        "linear reshape transpose matmul mul softmax slice_by_index tanh",
    ),
    "GELU": Network(
        Gelus,
        TOKENS,
        "gelu",
    ),
}
