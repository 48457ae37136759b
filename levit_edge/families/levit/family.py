"""LeViT as a row of the registry: thin functions between the flow's records and the modules of this folder."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from typing import Any

from torch import nn

from levit_edge.errors import InputError
from levit_edge.families.family import Checkpoint, Family, Source
from levit_edge.families.labels import choose_labels, numbered_labels
from levit_edge.families.levit.checkpoint import build_levit
from levit_edge.families.levit.config import VARIANTS, variant_config, variant_name
from levit_edge.families.levit.fuse import FusedLevit, fuse
from levit_edge.families.levit.image_processor import default_preprocessing, preprocessing_from_hf
from levit_edge.families.levit.key_layouts import find_layout
from levit_edge.families.levit.model import Levit, random_model
from levit_edge.families.levit.stated_config import read_stated
from levit_edge.families.weights import fingerprint

NAME = "levit"
IMAGENET_CLASSES = 1000


def recognises(keys: Collection[str], config: Mapping[str, Any]) -> bool:
    """True for keys with the stem and a block of a LeViT in some layout, and wherever config.json says so."""
    return config.get("model_type") == NAME or find_layout(keys) is not None


def load(source: Source, labels: Sequence[str] | None) -> Checkpoint:
    """The LeViT in ``source``; InputError for anything that is not entirely one."""
    stated = read_stated(source.config or {}, source.processor)
    model, layout = build_levit(source.state, stated, labels)
    return _checkpoint(model, model.config.labels, layout, source.name, stated.processor)


def random(variant: str, labels: Sequence[str] | None) -> Checkpoint:
    """The published architecture ``variant`` with random weights; without ``labels`` it has 1,000 numbered classes."""
    config = variant_config(variant, labels or numbered_labels(IMAGENET_CLASSES))
    return _checkpoint(random_model(config), config.labels, "native", f"random weights of {variant_name(config)}")


def adopt(module: nn.Module, labels: Sequence[str] | None) -> Checkpoint | None:
    """A checkpoint with a copy of ``module``, a Levit or a FusedLevit, in float32 on the CPU; None for other modules.

    ``labels`` replaces the class names of a FusedLevit; those of a Levit it may not contradict. Raises InputError
    for labels that do not fit and for NaN or infinity, naming the tensor.
    """
    if isinstance(module, Levit):
        chosen = choose_labels(module.config.num_labels if module.heads else 0, module.config.labels, labels)
        source = f"{type(module).__module__}.{type(module).__qualname__}"
    elif isinstance(module, FusedLevit):
        chosen = _fused_labels(module, labels)
        source = type(module).__name__
    else:
        return None
    model = deepcopy(module).cpu().float().eval()  # the caller's module stays as it is
    for name, tensor in model.state_dict().items():
        if not tensor.isfinite().all():
            raise InputError(f"the {type(module).__name__} has NaN or infinity in {name}")
    model.config = module.config.with_labels(chosen)
    return _checkpoint(model, chosen, "native", source)


def _fused_labels(model: FusedLevit, given: Sequence[str] | None) -> tuple[str, ...]:
    """The given class names, else the model's own, else numbers; none for a backbone without a head."""
    classes = 0 if model.head is None else model.head.out_features
    own = model.config.labels if classes else ()
    chosen = tuple(given or own or numbered_labels(classes))
    if len(chosen) != classes:
        raise InputError(f"{len(chosen)} labels were given; the model has {classes} classes")
    return chosen


def _checkpoint(
    model: Levit | FusedLevit,
    labels: tuple[str, ...],
    layout: str,
    source: str,
    processor: Mapping[str, Any] | None = None,
) -> Checkpoint:
    config, state = model.config, model.state_dict()
    channels = config.num_channels
    return Checkpoint(
        family=NAME,
        variant=variant_name(config),
        model=model,
        labels=labels,
        num_channels=channels,
        image_size=config.image_size,
        preprocessing=(
            default_preprocessing(config.image_size, channels)
            if processor is None
            else preprocessing_from_hf(processor, num_channels=channels)
        ),
        layout=layout,
        source=source,
        # BatchNorm step counters are no weights: a file may leave them out.
        sha256=fingerprint({key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}),
    )


def fuse_module(model: nn.Module) -> FusedLevit:
    """The deployable form of a Levit, or a copy of a FusedLevit; TypeError for any other module."""
    if isinstance(model, FusedLevit):
        return deepcopy(model)
    if isinstance(model, Levit):
        return fuse(model)
    raise TypeError(f"a LeViT is a Levit or a FusedLevit, not a {type(model).__name__}")


FAMILY = Family(
    name=NAME,
    variants=tuple(VARIANTS),
    recognises=recognises,
    load=load,
    random=random,
    adopt=adopt,
    fuse=fuse_module,
)
