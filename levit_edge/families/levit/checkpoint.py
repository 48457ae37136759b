"""From a state dict in any published layout to a :class:`Levit`, with every tensor accounted for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from levit_edge.errors import InputError
from levit_edge.families.labels import choose_labels
from levit_edge.families.levit.infer_config import Shapes, infer
from levit_edge.families.levit.key_layouts import Block, LayoutName, count_heads, key_map, optional_keys, recognise
from levit_edge.families.levit.model import Levit
from levit_edge.families.levit.stated_config import Stated, build_config, cross_check
from levit_edge.families.weights import to_float32
from levit_edge.wording import listed


def build_levit(
    state: Mapping[str, Tensor], stated: Stated, labels: Sequence[str] | None = None
) -> tuple[Levit, LayoutName]:
    """The model whose weights are ``state``, in float32 on the CPU, and the layout that the keys are written in.

    The architecture is read off the tensors and must agree with ``stated``. ``labels`` names the classes when
    ``stated`` does not. Raises InputError, naming keys, shapes or values, for anything that is not entirely a LeViT.
    """
    layout, blocks = recognise(state.keys())
    heads = count_heads(layout, state.keys())
    pairs = key_map(layout, blocks, heads)
    _check_keys(state, pairs)
    names = {ours: theirs for theirs, ours in pairs.items()}
    tensors = {ours: _as_matrix(ours, to_float32(theirs, state[theirs])) for ours, theirs in names.items()}
    shapes = Shapes({ours: tuple(tensor.shape) for ours, tensor in tensors.items()}, names)
    model = _empty_model(shapes, blocks, heads, stated, labels)
    _check_offsets(model, state, pairs)
    model.load_state_dict({**model.state_dict(), **tensors})  # BatchNorm step counters stay 0: unused in eval mode
    return model, layout.name


def _check_keys(state: Mapping[str, Tensor], pairs: Mapping[str, str]) -> None:
    missing = [key for key in pairs if key not in state]
    unexpected = sorted(set(state) - set(pairs) - set(optional_keys(pairs)))
    lists = (("missing keys", missing), ("unexpected keys", unexpected))
    found = [f"{title}: {listed(keys, 8)}" for title, keys in lists if keys]
    if found:
        raise InputError("; ".join(found))


def _as_matrix(key: str, tensor: Tensor) -> Tensor:
    """A 1x1 convolution's weight [C_out, C_in, 1, 1] as the matrix [C_out, C_in] of the equal linear layer."""
    pointwise = key.endswith(".linear.weight") and tensor.dim() == 4 and tuple(tensor.shape[2:]) == (1, 1)
    return tensor.flatten(1) if pointwise else tensor


def _empty_model(
    shapes: Shapes, blocks: list[Block], heads: int, stated: Stated, labels: Sequence[str] | None
) -> Levit:
    """The model that tensors of these shapes fill, not yet filled; InputError when some of them do not fit."""
    inferred = infer(shapes, [block.row.kind for block in blocks])
    cross_check(inferred, stated, heads)
    config = build_config(inferred, stated, choose_labels(inferred.num_labels, stated.labels, labels))
    model = Levit(config, heads)
    wrong = [
        f"{shapes.describe(key)}, expected {list(tensor.shape)}"
        for key, tensor in model.state_dict().items()
        if key in shapes.sizes and shapes[key] != tuple(tensor.shape)
    ]
    if wrong:
        raise InputError(f"wrong shapes: {listed(wrong, 8)}")
    return model


def _check_offsets(model: Levit, state: Mapping[str, Tensor], pairs: Mapping[str, str]) -> None:
    """Offset tables saved in a file must be the ones that this model computes."""
    for theirs, ours in optional_keys(pairs).items():
        if ours.endswith(".offsets") and theirs in state:
            expected = model.get_buffer(ours)
            if not torch.equal(state[theirs].cpu().to(torch.int64), expected):
                raise InputError(f"{theirs} is not the offset table of a {list(expected.shape)} attention")
