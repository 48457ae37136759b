"""What the flow needs of a model family, as one record; everything else about a family stays in its folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from levit_edge.families.preprocessing import Preprocessing


@dataclass(frozen=True)
class Source:
    """The content of a checkpoint, before its family is known.

    ``name`` is what messages and reports call it. ``state`` has the tensors by the file's own keys, ``config`` is the
    content of ``config.json`` (Hugging Face or timm) and ``processor`` that of ``preprocessor_config.json``; None where
    there is no such file.
    """

    name: str
    state: Mapping[str, Tensor]
    config: Mapping[str, Any] | None = None
    processor: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model, checked key by key, and all that a report or manifest says of it.

    ``model`` is in eval mode and is what :attr:`Family.fuse` takes. ``labels`` is empty for a backbone without a
    classification head. The input is float32 [B, num_channels, image_size, image_size], made by ``preprocessing``.
    ``layout`` names the key layout that the file was written in. ``sha256`` covers names, shapes and float32 values,
    so that equal weights have equal sums in every layout and file format.
    """

    family: str
    variant: str
    model: nn.Module
    labels: tuple[str, ...]
    num_channels: int
    image_size: int
    preprocessing: Preprocessing
    layout: str
    source: str
    sha256: str

    @property
    def parameters(self) -> int:
        """Number of parameters of ``model``."""
        return sum(parameter.numel() for parameter in self.model.parameters())


@dataclass(frozen=True)
class Family:
    """One model family: a row of ``registry.py``.

    ``variants`` are the published names that ``--random-weights`` takes. ``recognises(keys, config)`` tells whether a
    state dict with these keys is of this family; ``config`` is the content of ``config.json``, empty where there is
    none. ``load(source, labels)`` builds the reference model and accounts for every tensor; it raises InputError for
    anything that does not fit. ``random(variant, labels)`` gives a published architecture reproducible random weights.
    ``adopt(module, labels)`` takes over a live module of the family's own classes, reference or fused, and gives None
    for any other module. ``fuse(model)`` gives the deployable module: float32 [B, C, H, W] -> logits [B, classes],
    with its own copy of the weights, in eval mode.
    """

    name: str
    variants: tuple[str, ...]
    recognises: Callable[[Collection[str], Mapping[str, Any]], bool]
    load: Callable[[Source, Sequence[str] | None], Checkpoint]
    random: Callable[[str, Sequence[str] | None], Checkpoint]
    adopt: Callable[[nn.Module, Sequence[str] | None], Checkpoint | None]
    fuse: Callable[[nn.Module], nn.Module]
