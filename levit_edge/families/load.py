"""From what the user names as the model to a Checkpoint: a path, a Hub id, a variant, or a live module."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from levit_edge.errors import InputError, MissingComponentError
from levit_edge.families.family import Checkpoint, Source
from levit_edge.families.registry import FAMILIES, recognise
from levit_edge.families.weights import SUFFIXES, read_directory, read_file, read_json
from levit_edge.wording import first_line

logger = logging.getLogger(__name__)

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_FILES = ["config.json", "preprocessor_config.json", "model*.safetensors*", "pytorch_model*.bin*"]


def resolve(spec: str, *, random_weights: bool = False, labels: Sequence[str] | None = None) -> Checkpoint:
    """The model that ``--model`` names: a path, a Hub id ``org/name``, or a variant when ``random_weights`` is set.

    ``labels`` names the classes when the checkpoint does not. Raises InputError, with what would be valid, when
    ``spec`` is none of these or cannot be loaded.
    """
    if random_weights:
        return random_checkpoint(spec, labels)
    path = Path(spec)
    if path.exists():
        return load_checkpoint(path, labels)
    if spec.lower() in {name.lower() for name in variants()}:
        raise InputError(f"{spec} names an architecture without weights; pass a checkpoint, or add --random-weights")
    if _HUB_ID.fullmatch(spec) and path.suffix not in SUFFIXES and not path.parent.is_dir():
        return load_from_hub(spec, labels)
    raise InputError(
        f"{spec}: no such file or directory; give a path to a checkpoint, a Hub id (org/name), "
        f"or one of {', '.join(variants())} with --random-weights"
    )


def variants() -> tuple[str, ...]:
    """The published architectures of all families, by the names that ``--random-weights`` takes."""
    return tuple(name for family in FAMILIES.values() for name in family.variants)


def random_checkpoint(variant: str, labels: Sequence[str] | None = None) -> Checkpoint:
    """The architecture called ``variant`` (any letter case) with reproducible random weights.

    Raises InputError, with the valid names, for an unknown one.
    """
    for family in FAMILIES.values():
        for name in family.variants:
            if name.lower() == variant.lower():
                return _checked(family.random(name, labels))
    raise InputError(f"unknown variant {variant!r}; valid: {', '.join(variants())}")


def load_checkpoint(path: Path, labels: Sequence[str] | None = None) -> Checkpoint:
    """The model in a Hugging Face or timm directory, or in one weights file.

    In a training checkpoint the first of ``model``, ``state_dict``, ``model_ema``, ``state_dict_ema`` is taken.
    ``labels`` names the classes when the checkpoint does not. Raises InputError, beginning with ``path``, for a file
    that cannot be read, for tensors that are not exactly those of one model, and for a ``config.json`` or
    ``preprocessor_config.json`` that does not fit them.
    """
    path = Path(path)
    try:
        source = _read(path)
        checkpoint = recognise(source).load(source, labels)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return _checked(checkpoint)


def _read(path: Path) -> Source:
    if not path.exists():
        raise InputError("no such file or directory")
    if not path.is_dir():
        return Source(str(path), read_file(path))
    config, processor = (
        read_json(file) if file.is_file() else None
        for file in (path / "config.json", path / "preprocessor_config.json")
    )
    return Source(str(path), read_directory(path), config, processor)


def from_module(module: nn.Module, labels: Sequence[str] | None = None) -> Checkpoint:
    """The model in a live module: one of a family's own classes, or any other whose state dict a family recognises.

    The latter may carry its ``config.json`` as ``module.config.to_dict()``, as transformers' models do. ``module``
    is left as it is. Raises InputError where :func:`load_checkpoint` would.
    """
    for family in FAMILIES.values():
        adopted = family.adopt(module, labels)
        if adopted is not None:
            return _checked(adopted)
    name = f"{type(module).__module__}.{type(module).__qualname__}"
    source = Source(name, module.state_dict(), _stated_config(module))
    try:
        checkpoint = recognise(source).load(source, labels)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    return _checked(checkpoint)


def _stated_config(module: nn.Module) -> dict[str, Any] | None:
    """The content of the ``config.json`` that ``module`` would save, without the class that was saved before."""
    to_dict = getattr(getattr(module, "config", None), "to_dict", None)
    if to_dict is None:
        return None
    return {name: value for name, value in to_dict().items() if name != "architectures"}


def load_from_hub(repo_id: str, labels: Sequence[str] | None = None) -> Checkpoint:
    """Download ``org/name`` from the Hugging Face Hub, or take it from the local cache, and load it.

    Raises InputError when the Hub does not deliver it, and MissingComponentError without the package huggingface_hub.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingComponentError("huggingface_hub", "pip install 'huggingface_hub>=1.0'") from error
    try:
        folder = snapshot_download(repo_id, allow_patterns=_HUB_FILES)
    except (OSError, ValueError) as error:  # huggingface_hub's own errors derive from these two
        raise InputError(f"{repo_id}: no such path here, and the Hub did not give it: {first_line(error)}") from error
    return load_checkpoint(Path(folder), labels)


def _checked(checkpoint: Checkpoint) -> Checkpoint:
    """``checkpoint`` itself; InputError when its image processor does not give images of the model's size."""
    side, given = checkpoint.image_size, checkpoint.preprocessing.output_size
    if given is None:
        raise InputError(
            f"{checkpoint.source}: the image processor neither crops nor resizes to the {side} pixels of the model"
        )
    if given != (side, side):
        height, width = given
        raise InputError(
            f"{checkpoint.source}: the image processor gives {height}x{width} pixels; the model takes {side}"
        )
    logger.info(
        "%s: family %s, %s layout, %s, %d classes",
        *(checkpoint.source, checkpoint.family, checkpoint.layout, checkpoint.variant, len(checkpoint.labels)),
    )
    return checkpoint
