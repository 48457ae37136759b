"""The architecture of a LeViT (Graham et al. 2021, arXiv:2104.01136), and the five published ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from levit_edge.errors import InputError

# The subsampling attention between two stages is not configurable in any published LeViT:
# its values are 4 times as wide as its keys, its stride is 2, and the MLP after it has ratio 2 (paper, section 4.2).
SUBSAMPLE_ATTENTION_RATIO = 4
SUBSAMPLE_STRIDE = 2
SUBSAMPLE_MLP_RATIO = 2
STEM_CONVOLUTIONS = 4

_PER_STAGE = ("num_attention_heads", "depths", "key_dim", "mlp_ratio", "attention_ratio")


@dataclass(frozen=True)
class LevitConfig:
    """Every field and default of Hugging Face's ``LevitConfig`` (LeViT-128), plus the class labels.

    Tuples have one entry per stage, except ``labels``, which is empty for a backbone without a head. Images are
    square; ``image_size`` is their side in pixels. Raises :class:`InputError` when no LeViT has these fields.
    """

    image_size: int = 224
    num_channels: int = 3
    kernel_size: int = 3
    stride: int = 2
    padding: int = 1
    patch_size: int = 16
    hidden_sizes: tuple[int, ...] = (128, 256, 384)
    num_attention_heads: tuple[int, ...] = (4, 8, 12)
    depths: tuple[int, ...] = (4, 4, 4)
    key_dim: tuple[int, ...] = (16, 16, 16)
    drop_path_rate: float = 0
    mlp_ratio: tuple[int, ...] = (2, 2, 2)
    attention_ratio: tuple[int, ...] = (2, 2, 2)
    initializer_range: float = 0.02
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in ("hidden_sizes", *_PER_STAGE, "labels"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        self._check_stages()
        self._check_resolution()

    def _check_stages(self) -> None:
        stages = len(self.hidden_sizes)
        if stages == 0:
            raise InputError("hidden_sizes is empty; a LeViT has at least one stage")
        for field in _PER_STAGE:
            if len(getattr(self, field)) != stages:
                raise InputError(f"{field} has {len(getattr(self, field))} entries; hidden_sizes has {stages}")
        for field in ("hidden_sizes", "num_attention_heads", "key_dim", "attention_ratio"):
            if min(getattr(self, field)) < 1:
                raise InputError(f"{field} is {list(getattr(self, field))}; every entry must be at least 1")
        for field in ("depths", "mlp_ratio"):
            if min(getattr(self, field)) < 0:
                raise InputError(f"{field} is {list(getattr(self, field))}; entries must not be negative")
        if self.hidden_sizes[0] % 8:
            raise InputError(f"hidden_sizes[0] is {self.hidden_sizes[0]}; the stem needs a multiple of 8")
        if min(self.hidden_sizes[:-1], default=self.key_dim[0]) < self.key_dim[0]:
            raise InputError(f"hidden_sizes is {list(self.hidden_sizes)}; a subsampled stage needs {self.key_dim[0]}")

    def _check_resolution(self) -> None:
        for field in ("image_size", "num_channels", "kernel_size", "stride", "patch_size"):
            if getattr(self, field) < 1:
                raise InputError(f"{field} is {getattr(self, field)}; it must be at least 1")
        size = self.image_size
        for _ in range(STEM_CONVOLUTIONS):
            size = (size + 2 * self.padding - self.kernel_size) // self.stride + 1
        if size != self.image_size // self.patch_size or size < 1:
            raise InputError(
                f"image_size {self.image_size}: the stem gives a {size}x{size} grid, but image_size // patch_size is "
                f"{self.image_size // self.patch_size}; use a multiple of {self.patch_size}"
            )

    @property
    def num_labels(self) -> int:
        """Number of classes, 0 for a backbone."""
        return len(self.labels)

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Side of the token grid in each stage; a stage has side ** 2 tokens."""
        sides = [self.image_size // self.patch_size]
        for _ in self.hidden_sizes[1:]:
            sides.append((sides[-1] - 1) // SUBSAMPLE_STRIDE + 1)
        return tuple(sides)

    def subsample_heads(self, stage: int) -> int:
        """Heads of the subsampling attention that follows ``stage``."""
        return self.hidden_sizes[stage] // self.key_dim[0]

    def with_labels(self, labels: Sequence[str]) -> LevitConfig:
        """The same architecture with other class names."""
        return replace(self, labels=tuple(labels))


VARIANTS: dict[str, LevitConfig] = {
    name: LevitConfig(hidden_sizes=c, num_attention_heads=n, depths=x, key_dim=(d, d, d), drop_path_rate=p)
    for name, c, n, x, d, p in (
        ("levit-128S", (128, 256, 384), (4, 6, 8), (2, 3, 4), 16, 0),
        ("levit-128", (128, 256, 384), (4, 8, 12), (4, 4, 4), 16, 0),
        ("levit-192", (192, 288, 384), (3, 5, 6), (4, 4, 4), 32, 0),
        ("levit-256", (256, 384, 512), (4, 6, 8), (4, 4, 4), 32, 0),
        ("levit-384", (384, 512, 768), (6, 9, 12), (4, 4, 4), 32, 0.1),
    )
}

_NOT_ARCHITECTURE = ("labels", "image_size", "num_channels", "drop_path_rate", "initializer_range")
_ARCHITECTURE = tuple(f.name for f in fields(LevitConfig) if f.name not in _NOT_ARCHITECTURE)


def variant_config(name: str, labels: Sequence[str] = ()) -> LevitConfig:
    """The published architecture ``name``, such as ``levit-128S`` (any letter case), with ``labels`` as its classes.

    Raises InputError, with the valid names, for an unknown one.
    """
    for row, config in VARIANTS.items():
        if row.lower() == name.lower():
            return config.with_labels(labels)
    raise InputError(f"unknown variant {name!r}; valid: {', '.join(VARIANTS)}")


def variant_name(config: LevitConfig) -> str:
    """The name of the published architecture that ``config`` has, or ``custom``."""
    for name, row in VARIANTS.items():
        if all(getattr(row, field) == getattr(config, field) for field in _ARCHITECTURE):
            return name
    return "custom"
