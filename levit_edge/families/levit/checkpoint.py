"""From a LeViT checkpoint in any published layout to a :class:`Levit` whose every tensor is accounted for."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from levit_edge.errors import InputError, MissingComponentError
from levit_edge.families.levit.config import VARIANTS, LevitConfig, numbered_labels, variant_config, variant_name
from levit_edge.families.levit.infer_config import Shapes, infer
from levit_edge.families.levit.key_layouts import Block, count_heads, key_map, optional_keys, recognise
from levit_edge.families.levit.model import Levit, random_model
from levit_edge.families.levit.stated_config import (
    Stated,
    build_config,
    choose_labels,
    cross_check,
    read_huggingface,
    read_stated,
)
from levit_edge.families.weights import SUFFIXES, fingerprint, read_directory, read_file, read_json, shorten, to_float32

logger = logging.getLogger(__name__)

IMAGENET_CLASSES = 1000
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_FILES = ["config.json", "preprocessor_config.json", "model*.safetensors*", "pytorch_model*.bin*"]


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model and where it came from.

    ``layout`` is ``native`` for random weights and for a :class:`Levit` handed in. ``preprocessing_config`` holds the
    fields of ``preprocessor_config.json``, None when the checkpoint has none. ``sha256`` covers names, shapes and
    float32 values, so equal weights have equal sums in every layout and file format.
    """

    model: Levit
    layout: Literal["huggingface", "timm", "fair", "native"]
    preprocessing_config: dict[str, Any] | None
    source: str
    sha256: str

    @property
    def config(self) -> LevitConfig:
        """Architecture and labels."""
        return self.model.config

    @property
    def variant(self) -> str:
        """Published name, e.g. ``levit-128S``, or ``custom``."""
        return variant_name(self.config)


def load_checkpoint(path: Path, *, labels: Sequence[str] | None = None) -> Checkpoint:
    """Load a Hugging Face or timm directory, or one file in any of the three layouts.

    In a training checkpoint the first of ``model``, ``state_dict``, ``model_ema``, ``state_dict_ema`` is taken.
    ``labels`` names the classes when the checkpoint does not. Raises InputError, naming the file, for anything that
    is not entirely a LeViT.
    """
    path = Path(path)
    try:
        return _load_directory(path, labels) if path.is_dir() else _load_file(path, labels)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _load_file(path: Path, labels: Sequence[str] | None) -> Checkpoint:
    if not path.exists():
        raise InputError("no such file or directory")
    return _assemble(read_file(path), Stated(), labels, str(path))


def _load_directory(path: Path, labels: Sequence[str] | None) -> Checkpoint:
    preprocessor = path / "preprocessor_config.json"
    preprocessing = read_json(preprocessor) if preprocessor.is_file() else None
    config = path / "config.json"
    stated = read_stated(read_json(config), preprocessing) if config.is_file() else Stated(preprocessing=preprocessing)
    return _assemble(read_directory(path), stated, labels, str(path))


def from_module(module: nn.Module, *, labels: Sequence[str] | None = None) -> Checkpoint:
    """A checkpoint from a live transformers ``Levit*`` instance, a timm LeViT, or this project's :class:`Levit`."""
    source = f"{type(module).__module__}.{type(module).__qualname__}"
    if isinstance(module, Levit):
        chosen = choose_labels(module.config.num_labels, Stated(labels=module.config.labels), labels)
        native = deepcopy(module)
        native.config = module.config.with_labels(chosen)
        return Checkpoint(native, "native", None, source, _fingerprint(native))
    to_dict: Callable[[], dict[str, Any]] | None = getattr(getattr(module, "config", None), "to_dict", None)
    raw = to_dict() if to_dict is not None else {}
    raw.pop("architectures", None)  # names the class that was saved, not this one
    try:
        return _assemble(module.state_dict(), read_huggingface(raw), labels, source)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def _assemble(state: Mapping[str, Tensor], stated: Stated, labels: Sequence[str] | None, source: str) -> Checkpoint:
    layout, blocks = recognise(state.keys())
    heads = count_heads(layout, state.keys())
    pairs = key_map(layout, blocks, heads)
    _check_keys(state, pairs)
    names = {ours: theirs for theirs, ours in pairs.items()}
    tensors = {ours: _matrix(ours, to_float32(theirs, state[theirs])) for ours, theirs in names.items()}
    model = _build(Shapes({key: tuple(t.shape) for key, t in tensors.items()}, names), blocks, heads, stated, labels)
    _check_offsets(model, state, pairs)
    model.load_state_dict({**model.state_dict(), **tensors})  # BatchNorm step counters stay 0: unused in eval mode
    logger.info(
        "%s: %s layout, %s, %d classes", source, layout.name, variant_name(model.config), model.config.num_labels
    )
    return Checkpoint(model, layout.name, stated.preprocessing, source, _fingerprint(model))


def _check_keys(state: Mapping[str, Tensor], pairs: Mapping[str, str]) -> None:
    missing = [key for key in pairs if key not in state]
    unexpected = sorted(set(state) - set(pairs) - set(optional_keys(pairs)))
    lists = (("missing keys", missing), ("unexpected keys", unexpected))
    found = [f"{title}: {shorten(keys)}" for title, keys in lists if keys]
    if found:
        raise InputError("; ".join(found))


def _matrix(key: str, tensor: Tensor) -> Tensor:
    """A 1x1 convolution's weight [C_out, C_in, 1, 1] as the matrix [C_out, C_in] of the equal linear layer."""
    pointwise = key.endswith(".linear.weight") and tensor.dim() == 4 and tuple(tensor.shape[2:]) == (1, 1)
    return tensor.flatten(1) if pointwise else tensor


def _build(shapes: Shapes, blocks: list[Block], heads: int, stated: Stated, labels: Sequence[str] | None) -> Levit:
    inferred = infer(shapes, [block.row.kind for block in blocks])
    cross_check(inferred, stated, heads)
    model = Levit(build_config(inferred, stated, choose_labels(inferred.num_labels, stated, labels)), heads)
    wrong = [
        f"{shapes.describe(key)}, expected {list(tensor.shape)}"
        for key, tensor in model.state_dict().items()
        if key in shapes.sizes and shapes[key] != tuple(tensor.shape)
    ]
    if wrong:
        raise InputError(f"wrong shapes: {shorten(wrong)}")
    return model


def _check_offsets(model: Levit, state: Mapping[str, Tensor], pairs: Mapping[str, str]) -> None:
    """Offset tables saved in a file must be the ones this model computes."""
    for theirs, ours in optional_keys(pairs).items():
        if ours.endswith(".offsets") and theirs in state:
            expected = model.get_buffer(ours)
            if not torch.equal(state[theirs].cpu().to(torch.int64), expected):
                raise InputError(f"{theirs} is not the offset table of a {list(expected.shape)} attention")


def _fingerprint(model: Levit) -> str:
    state = model.state_dict()
    return fingerprint({key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")})


def load_from_hub(repo_id: str, *, labels: Sequence[str] | None = None) -> Checkpoint:
    """Download ``org/name`` from the Hugging Face Hub (or take it from its cache) and load it."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingComponentError("huggingface_hub", "pip install 'huggingface_hub>=1.0'") from error
    try:
        folder = snapshot_download(repo_id, allow_patterns=_HUB_FILES)
    except (OSError, ValueError) as error:  # network, authorisation and unknown repositories are OSError there
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{repo_id}: no such path here, and the Hub did not give it: {reason}") from error
    return load_checkpoint(Path(folder), labels=labels)


def resolve_model(spec: str, random_weights: bool = False, labels: Sequence[str] | None = None) -> Checkpoint:
    """Load what ``--model`` names: a path, a variant (random weights only), or a Hub id ``org/name``."""
    if random_weights:
        return _random_checkpoint(spec, labels)
    path = Path(spec)
    if path.exists():
        return load_checkpoint(path, labels=labels)
    if spec.lower() in {name.lower() for name in VARIANTS}:
        raise InputError(f"{spec} names an architecture without weights; pass a checkpoint, or add --random-weights")
    if _HUB_ID.fullmatch(spec) and path.suffix not in SUFFIXES and not path.parent.is_dir():
        return load_from_hub(spec, labels=labels)
    raise InputError(
        f"{spec}: no such file or directory; give a path to a checkpoint, a Hub id (org/name), "
        f"or one of {', '.join(VARIANTS)} with --random-weights"
    )


def _random_checkpoint(variant: str, labels: Sequence[str] | None) -> Checkpoint:
    config = variant_config(variant, labels or numbered_labels(IMAGENET_CLASSES))
    model = random_model(config)
    return Checkpoint(model, "native", None, f"random weights of {variant_name(config)}", _fingerprint(model))
