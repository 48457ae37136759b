"""LeViTs for the tests: transformers models with non-trivial weights, tiny configs, and the saved checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from levit_edge.families.labels import numbered_labels
from levit_edge.families.levit.config import VARIANTS, LevitConfig
from tests.places import CHECKPOINTS

transformers.utils.logging.disable_progress_bar()

DATA = CHECKPOINTS
HF_CLASSES = ("LevitModel", "LevitForImageClassification", "LevitForImageClassificationWithTeacher")  # 0, 1, 2 heads
# Every variant with both heads and the smallest with each number of heads at once, the others when there is more time.
VARIANTS_AND_HEADS = [
    pytest.param(variant, heads, marks=() if heads == 2 or variant == "levit-128S" else pytest.mark.slow)
    for variant in VARIANTS
    for heads in range(len(HF_CLASSES))
]
ODD_CONFIGS: dict[str, dict[str, Any]] = {
    "192 pixels": {"image_size": 192},
    "odd grid": {"image_size": 112},  # 7, 4, 2
    "one channel": {"num_channels": 1},
    "11 classes": {"labels": numbered_labels(11)},
    "unequal depths": {"depths": (3, 1, 2)},
    "an empty middle stage": {"depths": (1, 0, 2)},
    "an empty first stage": {"depths": (0, 1, 1)},
    "no MLP in a stage": {"mlp_ratio": (2, 0, 3)},
    "other attention ratios": {"attention_ratio": (1, 2, 4)},
    "heads that do not divide the width": {"num_attention_heads": (5, 1, 7)},
    "key widths per stage": {"key_dim": (16, 8, 24)},
    "5x5 kernels": {"kernel_size": 5, "padding": 2},
}


def hf_config(config: LevitConfig, **changes: Any) -> Any:
    """The transformers config with the same fields; ``changes`` override."""
    names = [name for name in LevitConfig.__dataclass_fields__ if name != "labels"]
    fields = {name: getattr(config, name) for name in names} | {"drop_path_rate": 0} | changes
    fields = {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
    return transformers.LevitConfig(**fields, id2label=dict(enumerate(config.labels)))


def hf_model(config: LevitConfig, heads: int, seed: int = 0) -> Any:
    """A transformers model in eval mode whose every tensor, BatchNorm statistics included, is random."""
    module = getattr(transformers, HF_CLASSES[heads])(hf_config(config)).eval()
    randomise(module, seed)
    return module


@torch.no_grad()
def randomise(module: nn.Module, seed: int) -> None:
    """Fill every parameter and BatchNorm statistic so that activations and logits are of order 1 to 10."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            continue
        low, high = _bounds(name, tensor)
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)


def _bounds(name: str, tensor: Tensor) -> tuple[float, float]:
    if name.endswith(("module.projection.batch_norm.weight", "linear_down.batch_norm.weight")):
        return 0.15, 0.45  # the residual branches: activations must not grow from block to block
    if name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
        return 0.5, 1.5
    if tensor.dim() == 1 or name.endswith("attention_biases"):
        return -0.5, 0.5
    gain = 3 if name.startswith("classifier") else 1
    bound = gain * (3 / tensor[0].numel()) ** 0.5
    return -bound, bound


def tiny_config(labels: Sequence[str] = ("cat", "dog", "owl"), **changes: Any) -> LevitConfig:
    """A LeViT of three small stages for 64x64 images."""
    fields: dict[str, Any] = {
        "image_size": 64,
        "hidden_sizes": (32, 48, 64),
        "num_attention_heads": (2, 3, 4),
        "depths": (1, 2, 1),
    }
    return LevitConfig(**(fields | changes), labels=tuple(labels))


def image(config: LevitConfig, batch: int = 1, seed: int = 0) -> Tensor:
    """Standard normal pixels [batch, channels, size, size]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, config.num_channels, config.image_size, config.image_size, generator=generator)
