"""timm's evaluation transform, written as the ``preprocessor_config.json`` that gives the same pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from levit_edge.errors import InputError
from levit_edge.families.preprocessing import IMAGENET_MEAN, IMAGENET_STD, RESAMPLINGS

_DEFAULT_CROP_PCT = 0.9  # that of every published LeViT
_OVERRIDE = "add a preprocessor_config.json beside config.json"


def preprocessing_from_timm(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``preprocessor_config.json`` for timm's ``pretrained_cfg``.

    Read are ``input_size``, ``crop_pct``, ``crop_mode``, ``interpolation``, ``mean`` and ``std``. timm resizes the
    shortest edge to ``floor(size / crop_pct)`` pixels. Raises InputError where LevitImageProcessor cannot do the same.
    """
    height, width = cfg["input_size"][1:]
    interpolation = cfg.get("interpolation", "bicubic")
    if interpolation not in RESAMPLINGS:
        raise InputError(f"pretrained_cfg says interpolation {interpolation!r}; valid: {', '.join(RESAMPLINGS)}")
    return {
        "do_resize": True,
        "size": _resize(height, cfg.get("crop_pct", _DEFAULT_CROP_PCT), cfg.get("crop_mode", "center")),
        "resample": RESAMPLINGS.index(interpolation),
        "do_center_crop": True,
        "crop_size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(cfg.get("mean", IMAGENET_MEAN)),
        "image_std": list(cfg.get("std", IMAGENET_STD)),
    }


def _resize(side: int, crop_pct: object, crop_mode: object) -> dict[str, int]:
    if not isinstance(crop_pct, int | float) or not 0 < crop_pct <= 1:
        raise InputError(f"pretrained_cfg says crop_pct {crop_pct!r}; expected a number in (0, 1]")
    target = math.floor(side / crop_pct)
    if crop_mode == "squash":
        return {"height": target, "width": target}
    if crop_mode != "center":
        raise InputError(f"pretrained_cfg says crop_mode {crop_mode!r}; valid: center, squash; {_OVERRIDE}")
    edge = math.ceil(target * 224 / 256)
    if int(256 / 224 * edge) != target:
        raise InputError(f"pretrained_cfg resizes to {target} pixels, which LevitImageProcessor cannot; {_OVERRIDE}")
    return {"shortest_edge": edge}
