"""The three published key layouts of a LeViT state dict, as data, and how their keys map onto ``model.py``.

Hugging Face transformers, timm, and the authors' own code name the same tensors differently. A :class:`Layout` holds
one set of names. Which blocks a file has is read off its keys, so any number of stages and blocks works.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Literal

from levit_edge.errors import InputError
from levit_edge.wording import listed

Kind = Literal["attention", "subsample", "mlp"]
LayoutName = Literal["huggingface", "timm", "fair"]

BIAS, OFFSETS = "attention_biases", "attention_bias_idxs"  # these names are the same in all three layouts
_NORM = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class BlockRow:
    """One kind of block: ``{}`` in the prefix stands for a number, ``layers`` maps our layer names to theirs.

    Blocks run in the order of (first number, ``rank[0]``, other numbers, ``rank[1]``).
    """

    kind: Kind
    prefix: str
    layers: Mapping[str, str]
    rank: tuple[int, int] = (0, 0)

    @property
    def pattern(self) -> re.Pattern[str]:
        """Matches the prefix of a key that belongs to such a block; the groups are the numbers in it."""
        names = [re.escape(name) + r"\." for name in self.layers.values()]
        if self.kind != "mlp":
            names += [BIAS, OFFSETS]
        return re.compile(re.escape(self.prefix).replace(r"\{\}", r"(\d+)") + f"(?={'|'.join(names)})")


@dataclass(frozen=True)
class Layout:
    """Where one layout keeps the stem, the blocks and the heads, and what it calls the layers inside them."""

    name: LayoutName
    stem: tuple[str, str, str, str]
    blocks: tuple[BlockRow, ...]
    heads: tuple[str, str]
    conv: str
    linear: str
    norm: str
    head_linear: str


@dataclass(frozen=True)
class Block:
    """One block found in a file: its kind and the exact prefix of its keys."""

    row: BlockRow
    prefix: str


def _huggingface(root: str) -> Layout:
    layer = root + "encoder.stages.{}.layers.{}."
    subsample = {"q": "queries", "kv": "keys_values", "proj": "projection"}
    stem = root + "patch_embeddings.embedding_layer_"
    return Layout(
        name="huggingface",
        stem=(stem + "1", stem + "2", stem + "3", stem + "4"),
        blocks=(
            BlockRow("attention", layer + "module.", {"qkv": "queries_keys_values", "proj": "projection"}),
            BlockRow("mlp", layer + "module.", {"up": "linear_up", "down": "linear_down"}),
            BlockRow("subsample", layer, subsample),
        ),
        heads=("classifier", "classifier_distill"),
        conv="convolution",
        linear="linear",
        norm="batch_norm",
        head_linear="linear",
    )


_TIMM_MLP = {"up": "ln1", "down": "ln2"}

LAYOUTS: tuple[Layout, ...] = (
    _huggingface("levit."),
    _huggingface(""),
    Layout(
        name="timm",
        stem=("stem.conv1", "stem.conv2", "stem.conv3", "stem.conv4"),
        blocks=(
            BlockRow(
                "subsample",
                "stages.{}.downsample.attn_downsample.",
                {"q": "q.ln", "kv": "kv", "proj": "proj.ln"},
            ),
            BlockRow("mlp", "stages.{}.downsample.mlp.", _TIMM_MLP, rank=(0, 1)),
            BlockRow("attention", "stages.{}.blocks.{}.attn.", {"qkv": "qkv", "proj": "proj.ln"}, rank=(1, 0)),
            BlockRow("mlp", "stages.{}.blocks.{}.mlp.", _TIMM_MLP, rank=(1, 1)),
        ),
        heads=("head", "head_dist"),
        conv="linear",
        linear="linear",
        norm="bn",
        head_linear="linear",
    ),
    Layout(
        name="fair",
        stem=("patch_embed.0", "patch_embed.2", "patch_embed.4", "patch_embed.6"),
        blocks=(
            BlockRow("attention", "blocks.{}.m.", {"qkv": "qkv", "proj": "proj.1"}),
            BlockRow("mlp", "blocks.{}.m.", {"up": "0", "down": "2"}),
            BlockRow("subsample", "blocks.{}.", {"q": "q.1", "kv": "kv", "proj": "proj.1"}),
        ),
        heads=("head", "head_dist"),
        conv="c",
        linear="c",
        norm="bn",
        head_linear="l",
    ),
)


def find_layout(keys: Collection[str]) -> Layout | None:
    """The layout in which ``keys`` have a convolution of the stem and at least one block; None when it is no LeViT."""
    for layout in LAYOUTS:
        stem = any(f"{prefix}.{layout.conv}.weight" in keys for prefix in layout.stem)
        patterns = [row.pattern for row in layout.blocks]
        if stem and any(pattern.match(key) for pattern in patterns for key in keys):
            return layout
    return None


def recognise(keys: Collection[str]) -> tuple[Layout, list[Block]]:
    """The layout that these keys are written in and its blocks in running order.

    Raises InputError when the keys are not those of a LeViT, or when the numbering of their blocks has a gap.
    """
    layout = find_layout(keys)
    if layout is None:
        shown = listed(sorted(keys)) or "none"
        raise InputError(f"not a LeViT checkpoint (Hugging Face, timm or the authors' layout); its keys are {shown}")
    return layout, _find_blocks(layout, keys)


def _find_blocks(layout: Layout, keys: Collection[str]) -> list[Block]:
    found: dict[tuple[int, ...], Block] = {}
    for row in layout.blocks:
        pattern = row.pattern
        for match in filter(None, map(pattern.match, keys)):
            first, *rest = map(int, match.groups())
            block = Block(row, match.group())
            other = found.setdefault((first, row.rank[0], *rest, row.rank[1]), block)
            if other != block:
                raise InputError(
                    f"{block.prefix} holds keys of {block.row.kind} where {other.prefix} is {other.row.kind}"
                )
    blocks = [found[position] for position in sorted(found)]
    _check_numbering(blocks)
    return blocks


def _check_numbering(blocks: list[Block]) -> None:
    numbers: dict[str, set[int]] = {}
    for block in blocks:
        for match in re.finditer(r"(?<=\.)\d+(?=\.)", block.prefix):
            numbers.setdefault(block.prefix[: match.start()], set()).add(int(match.group()))
    for parent, present in numbers.items():
        missing = next(number for number in count() if number not in present)
        if missing < max(present):
            raise InputError(f"missing keys: everything under {parent}{missing} (there is a {parent}{max(present)})")


def count_heads(layout: Layout, keys: Collection[str]) -> int:
    """Number of classification heads among these keys: 0, 1 or 2.

    A second head without the first counts as 2, so that the keys of the first are reported as missing.
    """
    found = [index + 1 for index, head in enumerate(layout.heads) if any(key.startswith(head + ".") for key in keys)]
    return max(found, default=0)


def key_map(layout: Layout, blocks: list[Block], heads: int) -> dict[str, str]:
    """Every key that such a file must have, and the parameter or buffer of ``Levit`` that it fills."""
    pairs: dict[str, str] = {}
    for index, prefix in enumerate(layout.stem):
        pairs[f"{prefix}.{layout.conv}.weight"] = f"stem.{index}.conv.weight"
        pairs |= _norm_keys(f"{prefix}.{layout.norm}", f"stem.{index}.norm")
    for index, block in enumerate(blocks):
        pairs |= _block_keys(layout, block, f"blocks.{index}")
    for index, prefix in enumerate(layout.heads[:heads]):
        pairs |= _norm_keys(f"{prefix}.{layout.norm}", f"heads.{index}.norm")
        for leaf in ("weight", "bias"):
            pairs[f"{prefix}.{layout.head_linear}.{leaf}"] = f"heads.{index}.linear.{leaf}"
    return pairs


def _block_keys(layout: Layout, block: Block, ours: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for layer, theirs in block.row.layers.items():
        pairs[f"{block.prefix}{theirs}.{layout.linear}.weight"] = f"{ours}.{layer}.linear.weight"
        pairs |= _norm_keys(f"{block.prefix}{theirs}.{layout.norm}", f"{ours}.{layer}.norm")
    if block.row.kind != "mlp":
        pairs[block.prefix + BIAS] = f"{ours}.bias"
    return pairs


def _norm_keys(theirs: str, ours: str) -> dict[str, str]:
    return {f"{theirs}.{leaf}": f"{ours}.{leaf}" for leaf in _NORM}


def optional_keys(pairs: Mapping[str, str]) -> dict[str, str]:
    """Keys that a file may have as well, and their buffers: BatchNorm step counters and attention offset tables."""
    optional: dict[str, str] = {}
    for theirs, ours in pairs.items():
        if theirs.endswith(".running_mean"):
            optional[theirs.removesuffix("running_mean") + "num_batches_tracked"] = (
                ours.removesuffix("running_mean") + "num_batches_tracked"
            )
        elif theirs.endswith(BIAS):
            optional[theirs.removesuffix(BIAS) + OFFSETS] = ours.removesuffix("bias") + "offsets"
    return optional
