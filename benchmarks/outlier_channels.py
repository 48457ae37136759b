"""A LeViT that computes what another one does, with a few channels that are much wider than the others.

Training leaves such channels: nothing in the loss sees a channel that is 30 times as large and is read with a weight of
1/30. A quantizer with one scale for a tensor does.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from levit_edge.families.levit.model import Attention, ConvNorm, Levit, LinearNorm, Mlp, SubsampleAttention


def with_outliers(model: Levit, factor: float, per_tensor: int, seed: int = 0) -> Levit:
    """A copy of ``model`` with ``per_tensor`` channels ``factor`` times as wide in each residual stream and each q.

    What reads them is scaled by the inverse, so that the function is the same.
    """
    found, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for makers, readers in _streams(found):
            chosen = torch.randperm(makers[0].norm.num_features, generator=generator)[:per_tensor]
            for maker in makers:
                _scale_rows(maker, chosen, factor)
            for reader in readers:
                reader.linear.weight[:, chosen] /= factor
        for head in found.heads:  # they read the last stream
            head.norm.running_mean[chosen] *= factor
            head.norm.weight[chosen] /= factor
        for block in found.blocks:
            if not isinstance(block, Mlp):
                queries, keys = _query_rows(block), _key_rows(block)
                chosen = torch.randperm(len(queries), generator=generator)[:per_tensor]
                _scale_rows(block.q if isinstance(block, SubsampleAttention) else block.qkv, queries[chosen], factor)
                _scale_rows(block.kv if isinstance(block, SubsampleAttention) else block.qkv, keys[chosen], 1 / factor)
    return found


def _streams(model: Levit) -> Iterator[tuple[Sequence[ConvNorm | LinearNorm], Sequence[LinearNorm]]]:
    """(makers, readers) of the residual stream of each stage."""
    makers: list[ConvNorm | LinearNorm] = [model.stem[-1]]  # type: ignore[list-item]
    readers: list[LinearNorm] = []
    for block in model.blocks:
        if isinstance(block, SubsampleAttention):
            yield makers, [*readers, block.q, block.kv]
            makers, readers = [block.proj], []
        elif isinstance(block, Attention):
            makers.append(block.proj)
            readers.append(block.qkv)
        else:
            assert isinstance(block, Mlp)
            makers.append(block.down)
            readers.append(block.up)
    yield makers, readers


def _scale_rows(layer: ConvNorm | LinearNorm, rows: Tensor, factor: float) -> None:
    layer.norm.weight[rows] *= factor
    layer.norm.bias[rows] *= factor


def _query_rows(block: Attention | SubsampleAttention) -> Tensor:
    """Rows of the layer that makes q, head by head."""
    width = block.key_dim if isinstance(block, SubsampleAttention) else 2 * block.key_dim + block.value_dim
    return _rows(block, width, 0)


def _key_rows(block: Attention | SubsampleAttention) -> Tensor:
    """The same for k, channel by channel of q."""
    first = 0 if isinstance(block, SubsampleAttention) else block.key_dim
    return _rows(block, first + block.key_dim + block.value_dim, first)


def _rows(block: Attention | SubsampleAttention, width: int, first: int) -> Tensor:
    return (torch.arange(block.heads)[:, None] * width + first + torch.arange(block.key_dim)).flatten()
