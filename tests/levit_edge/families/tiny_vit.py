"""A second model family for the tests: a vision transformer of 23,000 weights, unlike LeViT in every layer.

It has what LeViT lacks: a learned position embedding, LayerNorm, GELU, linear layers without bias, and a query scale
that stays in the graph. Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv:2010.11929, section 3.1,
with the mean of the tokens in place of a class token.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from levit_edge.errors import InputError
from levit_edge.families.family import Checkpoint, Family, Source
from levit_edge.families.labels import choose_labels
from levit_edge.families.preprocessing import Preprocessing
from levit_edge.families.weights import fingerprint, to_float32
from levit_edge.wording import listed, validation_reason

NAME = "tiny_vit"
VARIANT = "tiny-vit"
LABELS = ("cat", "dog", "owl")
IMAGE_SIZE, PATCH, CHANNELS, WIDTH, HEADS, DEPTH, MLP_RATIO = 32, 8, 3, 32, 2, 2, 2
TOKENS = (IMAGE_SIZE // PATCH) ** 2
HALF = (0.5, 0.5, 0.5)
PREPROCESSING = Preprocessing(
    shortest_edge=None, resize_to=(IMAGE_SIZE, IMAGE_SIZE), do_center_crop=False, image_mean=HALF, image_std=HALF
)


class Block(nn.Module):
    """Attention and MLP, each behind a LayerNorm and with a residual. [B, N, C] -> [B, N, C]."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, MLP_RATIO * WIDTH), nn.Linear(MLP_RATIO * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(2, (3, HEADS, -1))  # [B, N, 3, H, D]
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [B, H, N, D]
        context = F.scaled_dot_product_attention(q, k, v)  # [B, H, N, D]
        x = x + self.proj(context.transpose(1, 2).flatten(2))  # [B, N, H * D]
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class TinyVit(nn.Module):
    """The reference model, in eval mode. float [B, 3, 32, 32] -> logits [B, classes]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(CHANNELS, WIDTH, PATCH, PATCH)
        self.position = nn.Parameter(torch.zeros(1, TOKENS, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, classes)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        x = self.embed(image).flatten(2).transpose(1, 2) + self.position  # [B, C, h, w] -> [B, N, C]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(dim=1))  # [B, C]


class FusedBlock(nn.Module):
    """:class:`Block` with q, k and v as separate layers and the attention as two bmm. [B, N, C] -> [B, N, C]."""

    def __init__(self, source: Block) -> None:
        super().__init__()
        self.norm1, self.norm2 = source.norm1, source.norm2
        self.q, self.k, self.v = (_linear_without_bias(weight) for weight in source.qkv.weight.chunk(3))
        self.proj, self.up, self.down = source.proj, source.up, source.down

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens = x.shape[0], x.shape[1]
        y = self.norm1(x)
        q, k, v = (self.split(layer(y)) for layer in (self.q, self.k, self.v))  # each [B * H, N, D]
        scores = torch.bmm(q * (WIDTH // HEADS) ** -0.5, k.permute(0, 2, 1))  # [B * H, N, N]
        context = torch.bmm(scores.softmax(dim=-1), v)  # [B * H, N, D]
        merged = context.view(batch, HEADS, tokens, -1).permute(0, 2, 1, 3).reshape(batch, tokens, WIDTH)  # [B, N, C]
        x = x + self.proj(merged)
        return x + self.down(F.gelu(self.up(self.norm2(x))))

    def split(self, x: Tensor) -> Tensor:
        parts = x.view(x.shape[0], x.shape[1], HEADS, -1).permute(0, 2, 1, 3)  # [B, N, H * D] -> [B, H, N, D]
        return parts.reshape(x.shape[0] * HEADS, x.shape[1], -1)  # [B * H, N, D]


def _linear_without_bias(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight.detach().clone())
    return layer


class FusedTinyVit(nn.Module):
    """The deployable model. float [B, 3, 32, 32] -> logits [B, classes], any batch size."""

    def __init__(self, source: TinyVit) -> None:
        super().__init__()
        source = deepcopy(source)
        self.embed, self.position, self.norm, self.head = source.embed, source.position, source.norm, source.head
        self.blocks = nn.ModuleList(FusedBlock(block) for block in source.blocks if isinstance(block, Block))
        self.requires_grad_(False)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        x = self.embed(image).permute(0, 2, 3, 1).reshape(image.shape[0], TOKENS, WIDTH)  # [B, C, h, w] -> [B, N, C]
        x = x + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(dim=1))  # [B, C]


def recognises(keys: Collection[str], config: Mapping[str, Any]) -> bool:
    return config.get("model_type") == NAME or {"embed.weight", "position", "head.weight"} <= set(keys)


def load(source: Source, labels: Sequence[str] | None) -> Checkpoint:
    classes = source.state["head.weight"].shape[0] if "head.weight" in source.state else 1
    model = TinyVit(classes)
    wrong = sorted(set(source.state) ^ set(model.state_dict()))
    if wrong:
        raise InputError(f"missing or unexpected keys: {listed(wrong)}")
    model.load_state_dict({key: to_float32(key, tensor) for key, tensor in source.state.items()})
    names = (source.config or {}).get("labels")
    preprocessing = PREPROCESSING if source.processor is None else _read_processor(source.processor)
    return _checkpoint(model, choose_labels(classes, names, labels), NAME, source.name, preprocessing)


def _read_processor(raw: Mapping[str, Any]) -> Preprocessing:
    try:
        return Preprocessing.model_validate(raw)
    except ValidationError as error:
        raise InputError(f"preprocessor_config: {validation_reason(error)}") from error


def random(variant: str, labels: Sequence[str] | None) -> Checkpoint:
    chosen = tuple(labels or LABELS)
    return _checkpoint(random_model(len(chosen)), chosen, "native", f"random weights of {variant}", PREPROCESSING)


def adopt(module: nn.Module, labels: Sequence[str] | None) -> Checkpoint | None:
    if not isinstance(module, TinyVit | FusedTinyVit):
        return None
    chosen = choose_labels(module.head.out_features, None, labels)
    return _checkpoint(deepcopy(module), chosen, "native", type(module).__name__, PREPROCESSING)


def _checkpoint(
    model: TinyVit | FusedTinyVit, labels: tuple[str, ...], layout: str, source: str, preprocessing: Preprocessing
) -> Checkpoint:
    return Checkpoint(
        family=NAME,
        variant=VARIANT,
        model=model,
        labels=labels,
        num_channels=CHANNELS,
        image_size=IMAGE_SIZE,
        preprocessing=preprocessing,
        layout=layout,
        source=source,
        sha256=fingerprint(model.state_dict()),
    )


def fuse(model: nn.Module) -> FusedTinyVit:
    if isinstance(model, FusedTinyVit):
        return deepcopy(model)
    assert isinstance(model, TinyVit)
    return FusedTinyVit(model)


@torch.no_grad()
def random_model(classes: int = len(LABELS), seed: int = 0) -> TinyVit:
    """Random weights with which activations stay of order 1, and logits tell images apart."""
    model = TinyVit(classes)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.named_parameters():
        noise = torch.rand(tensor.shape, generator=generator) * 2 - 1  # [-1, 1)
        if "norm" in name and name.endswith("weight"):
            tensor.copy_(1 + noise / 2)
        elif name == "position" or tensor.dim() == 1:
            tensor.copy_(noise / 2)
        else:
            tensor.copy_(noise * (3 / tensor[0].numel()) ** 0.5)
    return model


def image(batch: int = 1, seed: int = 0) -> Tensor:
    """Standard normal pixels: float32 [batch, 3, 32, 32]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, CHANNELS, IMAGE_SIZE, IMAGE_SIZE, generator=generator)


TINY_VIT = Family(
    name=NAME, variants=(VARIANT,), recognises=recognises, load=load, random=random, adopt=adopt, fuse=fuse
)
