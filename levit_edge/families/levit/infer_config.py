"""Read the architecture of a LeViT off the shapes of its tensors. Keys are those of ``model.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt

from levit_edge.errors import InputError
from levit_edge.families.levit.config import SUBSAMPLE_ATTENTION_RATIO
from levit_edge.families.levit.key_layouts import Kind


@dataclass(frozen=True)
class Shapes:
    """The shape of every tensor, and its name in the file, by its key in ``model.py``."""

    sizes: Mapping[str, tuple[int, ...]]
    names: Mapping[str, str]

    def __getitem__(self, key: str) -> tuple[int, ...]:
        return self.sizes[key]

    def describe(self, key: str) -> str:
        """The tensor as an error message shows it: the file's name and the shape."""
        return f"{self.names[key]} is {list(self.sizes[key])}"


@dataclass(frozen=True)
class Stage:
    """Indices of one stage's blocks; ``subsample`` is the attention that ends it, None in the last stage."""

    attentions: tuple[int, ...]
    mlps: tuple[int, ...]
    subsample: int | None


@dataclass(frozen=True)
class Inferred:
    """The architecture. A per-stage entry is None where the stage has no block whose shape would tell it."""

    side: int
    num_channels: int
    kernel_size: int
    hidden_sizes: tuple[int, ...]
    depths: tuple[int, ...]
    num_attention_heads: tuple[int | None, ...]
    key_dim: tuple[int | None, ...]
    attention_ratio: tuple[int | None, ...]
    mlp_ratio: tuple[int | None, ...]
    num_labels: int


def split_stages(kinds: Sequence[Kind]) -> list[Stage]:
    """Group the blocks into stages: a subsampling attention ends a stage, and its MLP begins the next one.

    Raises InputError when the blocks are in an order that no LeViT has.
    """
    ends = [index for index, kind in enumerate(kinds) if kind == "subsample"]
    starts = [0, *(end + 1 for end in ends)]
    stages = []
    for number, (start, end) in enumerate(zip(starts, [*ends, len(kinds)], strict=True)):
        if number and (start == end or kinds[start] != "mlp"):
            raise InputError(f"stage {number} does not open with the MLP that follows a subsampling attention")
        body = range(start + bool(number), end)
        stages.append(_stage(number, body, kinds, end if number < len(ends) else None))
    return stages


def _stage(number: int, body: range, kinds: Sequence[Kind], subsample: int | None) -> Stage:
    attentions = tuple(index for index in body if kinds[index] == "attention")
    mlps = tuple(index for index in body if kinds[index] == "mlp")
    found = [kinds[index] for index in body]
    if found not in (["attention"] * len(attentions), ["attention", "mlp"] * len(attentions)):
        raise InputError(f"stage {number} has the blocks {', '.join(found)}; expected attention, mlp alternating")
    return Stage(attentions, mlps, subsample)


def infer(shapes: Shapes, kinds: Sequence[Kind]) -> Inferred:
    """Read the architecture off the shapes; InputError names the tensors that cannot belong to a LeViT."""
    _check_ranks(shapes)
    stages = split_stages(kinds)
    widths = [_stage_widths(shapes, number, stage) for number, stage in enumerate(stages)]
    subsamples = [stage.subsample for stage in stages if stage.subsample is not None]
    return Inferred(
        side=_side(shapes, next(index for index, kind in enumerate(kinds) if kind != "mlp")),
        num_channels=shapes["stem.0.conv.weight"][1],
        kernel_size=shapes["stem.0.conv.weight"][2],
        hidden_sizes=(
            shapes["stem.3.conv.weight"][0],
            *(shapes[f"blocks.{index}.proj.linear.weight"][0] for index in subsamples),
        ),
        depths=tuple(len(stage.attentions) for stage in stages),
        num_attention_heads=tuple(width[0] for width in widths),
        key_dim=tuple(width[1] for width in widths),
        attention_ratio=tuple(width[2] for width in widths),
        mlp_ratio=tuple(_mlp_ratio(shapes, stage) for stage in stages),
        num_labels=shapes["heads.0.linear.weight"][0] if "heads.0.linear.weight" in shapes.sizes else 0,
    )


def _check_ranks(shapes: Shapes) -> None:
    for key, shape in shapes.sizes.items():
        matrix = key.endswith(".linear.weight") or (key.startswith("blocks.") and key.count(".") == 2)
        rank = 4 if key.endswith(".conv.weight") else 2 if matrix else 1
        if len(shape) != rank or min(shape) < 1:
            raise InputError(f"{shapes.describe(key)}; expected {rank} non-empty dimension{'s' * (rank > 1)}")


def _side(shapes: Shapes, index: int) -> int:
    offsets = shapes[f"blocks.{index}.bias"][1]
    if isqrt(offsets) ** 2 != offsets:
        raise InputError(f"{shapes.describe(f'blocks.{index}.bias')}; a square image gives a square number of offsets")
    return isqrt(offsets)


def _stage_widths(shapes: Shapes, number: int, stage: Stage) -> tuple[int | None, int | None, int | None]:
    """(heads, key_dim, attention_ratio) of a stage.

    In a stage without attention they are unknown, except the key_dim of the first stage: every subsampling attention
    has it too.
    """
    if stage.attentions:
        return _attention_widths(shapes, stage.attentions[0])
    if number == 0 and stage.subsample is not None:
        value = shapes[f"blocks.{stage.subsample}.proj.linear.weight"][1]  # heads * value_dim
        return None, value // (SUBSAMPLE_ATTENTION_RATIO * shapes[f"blocks.{stage.subsample}.bias"][0]), None
    return None, None, None


def _attention_widths(shapes: Shapes, index: int) -> tuple[int, int, int]:
    keys = [f"blocks.{index}.{leaf}" for leaf in ("bias", "qkv.linear.weight", "proj.linear.weight")]
    heads, qkv, value = shapes[keys[0]][0], shapes[keys[1]][0], shapes[keys[2]][1]
    key_dim = (qkv - value) // (2 * heads)  # qkv = heads * (2 * key_dim + value_dim), value = heads * value_dim
    if key_dim < 1 or 2 * heads * key_dim + value != qkv or value % (heads * key_dim):
        raise InputError(f"{', '.join(map(shapes.describe, keys))}: no key and value width fits {heads} heads")
    return heads, key_dim, value // (heads * key_dim)


def _mlp_ratio(shapes: Shapes, stage: Stage) -> int | None:
    if not stage.mlps:
        return 0 if stage.attentions else None
    key = f"blocks.{stage.mlps[0]}.up.linear.weight"
    rows, columns = shapes[key]
    if rows % columns:
        raise InputError(f"{shapes.describe(key)}; the MLP must widen by a whole ratio")
    return rows // columns
