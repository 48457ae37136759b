"""What a ``config.json`` of Hugging Face or timm states about a LeViT, and whether the weights agree with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from levit_edge.errors import InputError
from levit_edge.families.levit.config import LevitConfig, variant_config
from levit_edge.families.levit.infer_config import Inferred
from levit_edge.families.levit.timm_preprocessing import preprocessing_from_timm

PER_STAGE = ("hidden_sizes", "depths", "num_attention_heads", "key_dim", "attention_ratio", "mlp_ratio")
_SCALARS = ("image_size", "num_channels", "kernel_size", "stride", "padding", "patch_size")
_FLOATS = ("drop_path_rate", "initializer_range")
_HEADS = {"LevitModel": 0, "LevitForImageClassification": 1, "LevitForImageClassificationWithTeacher": 2}
_STAGE_DEFAULTS = {"num_attention_heads": 1, "attention_ratio": 2, "mlp_ratio": 2}


@dataclass(frozen=True)
class Stated:
    """What the files beside the weights say; what they leave out is absent from ``fields``, or None."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    num_labels: int | None = None
    heads: int | None = None
    processor: Mapping[str, Any] | None = None


def read_stated(raw: Mapping[str, Any], processor: Mapping[str, Any] | None = None) -> Stated:
    """Parse a ``config.json`` of transformers (``model_type``) or timm (``architecture``); an empty one states nothing.

    ``processor`` is the checkpoint's ``preprocessor_config.json``; it takes precedence over timm's
    ``pretrained_cfg``. Raises InputError for fields of the wrong kind and for models that are no LeViT.
    """
    if "architecture" in raw:
        return _read_timm(raw, processor)
    return _read_huggingface(raw, processor)


def _read_huggingface(raw: Mapping[str, Any], processor: Mapping[str, Any] | None) -> Stated:
    if raw.get("model_type", "levit") != "levit":
        raise InputError(f"config.json says model_type {raw['model_type']!r}; expected 'levit'")
    fields: dict[str, Any] = {name: _integer(name, raw[name]) for name in _SCALARS if name in raw}
    fields |= {name: _integers(name, raw[name]) for name in PER_STAGE if name in raw}
    fields |= {name: _number(name, raw[name]) for name in _FLOATS if name in raw}
    labels = _id2label(raw["id2label"]) if raw.get("id2label") is not None else None
    num_labels = len(labels) if labels is not None else raw.get("num_labels")
    return Stated(fields, labels, num_labels, _stated_heads(raw, num_labels), processor)


def _integer(name: str, value: object) -> int:
    if isinstance(value, Sequence) and not isinstance(value, str) and len(set(value)) == 1:
        value = value[0]  # image_size and patch_size may be [height, width]
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"config.json says {name} {value!r}; expected one whole number (images are square)")
    return value


def _integers(name: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, Sequence) or not all(isinstance(item, int) for item in value):
        raise InputError(f"config.json says {name} {value!r}; expected a list of whole numbers, one per stage")
    return tuple(value)


def _number(name: str, value: object) -> float:
    if not isinstance(value, int | float):
        raise InputError(f"config.json says {name} {value!r}; expected a number")
    return value


def _id2label(value: object) -> tuple[str, ...]:
    try:
        names = {int(index): name for index, name in dict(value).items()}  # type: ignore[call-overload]
    except (TypeError, ValueError) as error:
        raise InputError(f"config.json has an id2label that is not a map of class number to name: {error}") from error
    ids = sorted(names)
    if ids != list(range(len(names))) or not all(isinstance(name, str) for name in names.values()):
        shown = f"{ids[0]} … {ids[-1]} ({len(ids)} of them)" if len(ids) > 4 else ", ".join(map(str, ids))
        raise InputError(f"config.json has an id2label with ids {shown}; expected names for 0, 1, 2, …")
    return tuple(names[index] for index in range(len(names)))


def _stated_heads(raw: Mapping[str, Any], num_labels: int | None) -> int | None:
    names = [name for name in raw.get("architectures") or () if name in _HEADS]
    if not names:
        return None
    return 0 if num_labels == 0 else _HEADS[names[0]]


def _read_timm(raw: Mapping[str, Any], processor: Mapping[str, Any] | None) -> Stated:
    if raw.get("global_pool", "avg") != "avg":
        raise InputError(f"config.json says global_pool {raw['global_pool']!r}; only 'avg' is supported")
    row = _timm_row(str(raw["architecture"]))
    fields: dict[str, Any] = {} if raw.get("model_args") else {name: getattr(row, name) for name in PER_STAGE}
    cfg = raw.get("pretrained_cfg") or {}
    if "input_size" in cfg:
        fields |= _timm_input(cfg["input_size"])
        processor = preprocessing_from_timm(cfg) if processor is None else processor
    labels = raw.get("label_names")
    return Stated(fields, tuple(map(str, labels)) if labels else None, raw.get("num_classes"), None, processor)


def _timm_row(architecture: str) -> LevitConfig:
    """The published row of ``levit_128s`` or ``levit_conv_128s``; timm's other LeViTs use SiLU or another stem."""
    try:
        return variant_config(architecture.replace("levit_conv_", "levit_").replace("levit_", "levit-"))
    except InputError as error:
        raise InputError(f"config.json says architecture {architecture!r}; {error}") from error


def _timm_input(input_size: object) -> dict[str, int]:
    sizes = _integers("input_size", input_size)
    if len(sizes) != 3:
        raise InputError(f"config.json says input_size {list(sizes)}; expected [channels, height, width]")
    return {"num_channels": sizes[0], "image_size": _integer("input_size", sizes[1:])}


def cross_check(inferred: Inferred, stated: Stated, heads: int) -> None:
    """InputError with both values wherever the config and the weights disagree."""
    for name in PER_STAGE:
        if name in stated.fields:
            _check_stages(name, stated.fields[name], getattr(inferred, name))
    for name in ("num_channels", "kernel_size"):
        _check(name, stated.fields.get(name), getattr(inferred, name))
    _check("number of heads", stated.heads, heads)
    if heads:
        _check("number of classes", stated.num_labels, inferred.num_labels)
        _check("number of class names", None if stated.labels is None else len(stated.labels), inferred.num_labels)
    size, patch = stated.fields.get("image_size"), stated.fields.get("patch_size", LevitConfig.patch_size)
    if size is not None and patch > 0 and size // patch != inferred.side:
        raise InputError(
            f"config.json says image_size {size}, a {size // patch}x{size // patch} grid; "
            f"the attention biases in the weights are for {inferred.side}x{inferred.side}"
        )


def _check_stages(name: str, stated: tuple[int, ...], found: tuple[int | None, ...]) -> None:
    agree = len(stated) == len(found) and all(b is None or a == b for a, b in zip(stated, found, strict=True))
    if not agree:
        shown = ["?" if entry is None else entry for entry in found]
        raise InputError(f"config.json says {name} {list(stated)}; the weights have {shown}")


def _check(name: str, stated: int | None, found: int) -> None:
    if stated is not None and stated != found:
        raise InputError(f"config.json says {name} {stated}; the weights have {found}")


def build_config(inferred: Inferred, stated: Stated, labels: tuple[str, ...]) -> LevitConfig:
    """The config of these weights; stride, padding and patch size do not show in shapes and default to LeViT's."""
    fields = {name: value for name, value in stated.fields.items() if name not in PER_STAGE}
    fields.setdefault("padding", inferred.kernel_size // 2)
    fields.setdefault("image_size", inferred.side * fields.get("patch_size", LevitConfig.patch_size))
    fields |= {"num_channels": inferred.num_channels, "kernel_size": inferred.kernel_size}
    for name in PER_STAGE:
        default = inferred.key_dim[0] if name == "key_dim" else _STAGE_DEFAULTS.get(name)
        fallback = stated.fields.get(name, (default,) * len(inferred.depths))
        found = getattr(inferred, name)
        fields[name] = tuple(b if a is None else a for a, b in zip(found, fallback, strict=True))
    return LevitConfig(**fields, labels=labels)
