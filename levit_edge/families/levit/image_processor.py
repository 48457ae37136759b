"""Read the ``preprocessor_config.json`` of a LevitImageProcessor, and refuse what that processor would not do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from pydantic import ValidationError

from levit_edge.errors import InputError
from levit_edge.families.preprocessing import IMAGENET_MEAN, IMAGENET_STD, RESAMPLINGS, Preprocessing, Resampling
from levit_edge.wording import validation_reason

PROCESSORS = ("LevitImageProcessor", "LevitImageProcessorFast", "LevitImageProcessorPil", "LevitFeatureExtractor")
_TYPE_FIELDS = ("image_processor_type", "feature_extractor_type")
_SWITCHES = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
_FIELDS = (*_SWITCHES, "size", "resample", "crop_size", "rescale_factor", "image_mean", "image_std")

# Fields that a saved processor may carry and that say nothing about the pixels of one image.
_NEUTRAL = (
    *_TYPE_FIELDS,
    *("processor_class", "auto_map", "_valid_processor_keys", "_processor_class", "transformers_version"),
    *("default_to_square", "do_convert_rgb", "do_pad", "data_format", "input_data_format"),
    *("device", "disable_grouping", "return_tensors", "image_seq_length"),
)


def default_preprocessing(image_size: int, num_channels: int = 3) -> Preprocessing:
    """The preprocessing of the published LeViTs for images of ``image_size`` x ``image_size`` pixels.

    Raises InputError unless ``image_size`` is positive and ``num_channels`` is 1 or 3.
    """
    mean, std = _default_statistics(num_channels)
    return _build(
        {
            "shortest_edge": image_size,
            "crop_size": (image_size, image_size),
            "image_mean": mean,
            "image_std": std,
            "num_channels": num_channels,
        }
    )


def preprocessing_from_hf(config: Mapping[str, Any], *, num_channels: int = 3) -> Preprocessing:
    """The parameters in a parsed ``preprocessor_config.json``.

    A field that is absent or null has LevitImageProcessor's default, as in transformers. Raises InputError for a field
    that is unknown or of the wrong kind, and for one that asks for something LevitImageProcessor does not do.
    """
    given = {field: value for field, value in config.items() if value is not None}
    _check_fields(given)
    mean, std = _default_statistics(num_channels)
    values: dict[str, Any] = {field: _switch(field, given[field]) for field in _SWITCHES if field in given}
    values["image_mean"] = _channels("image_mean", given.get("image_mean", mean), num_channels)
    values["image_std"] = _channels("image_std", given.get("image_std", std), num_channels)
    values["num_channels"] = num_channels
    if "size" in given:
        values.update(_size(given["size"], square=given.get("default_to_square", False) is True))
    if "crop_size" in given:
        values["crop_size"] = _height_width("crop_size", given["crop_size"])
    if "resample" in given:
        values["resample"] = _resample(given["resample"])
    if "rescale_factor" in given:
        values["rescale_factor"] = _number("rescale_factor", given["rescale_factor"])
    return _build(values)


def _check_fields(given: Mapping[str, Any]) -> None:
    for field in _TYPE_FIELDS:
        if field in given and given[field] not in PROCESSORS:
            raise _invalid(field, given[field], ", ".join(PROCESSORS))
    if given.get("do_pad", False) is not False:
        raise _invalid("do_pad", given["do_pad"], "false")
    unknown = [field for field in given if field not in _FIELDS and field not in _NEUTRAL]
    if unknown:
        raise InputError(f"preprocessor_config: unknown field {unknown[0]!r}; valid: {', '.join(_FIELDS)}")


def _build(values: dict[str, Any]) -> Preprocessing:
    try:
        return Preprocessing(**values)
    except ValidationError as error:
        raise InputError(f"preprocessing: {validation_reason(error)}") from error


def _default_statistics(num_channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if num_channels == 3:
        return IMAGENET_MEAN, IMAGENET_STD
    if num_channels == 1:
        return (fmean(IMAGENET_MEAN),), (fmean(IMAGENET_STD),)
    raise InputError(f"num_channels is {num_channels}; photographs give 1 or 3")


def _switch(field: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise _invalid(field, value, "true, false")


def _number(field: str, value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise _invalid(field, value, "a finite number")


def _channels(field: str, value: object, num_channels: int) -> tuple[float, ...]:
    """One number for all channels, or a list with one for each."""
    if not isinstance(value, (list, tuple)):
        return (_number(field, value),) * num_channels
    if len(value) != num_channels:
        raise _invalid(field, value, f"a number or a list of {num_channels}, one for each channel of the model")
    return tuple(_number(field, entry) for entry in value)


def _size(value: object, *, square: bool) -> dict[str, Any]:
    if isinstance(value, Mapping) and set(value) == {"shortest_edge"}:
        return {"shortest_edge": _side("size", value["shortest_edge"])}
    if isinstance(value, int) and not square:
        return {"shortest_edge": _side("size", value)}
    return {"shortest_edge": None, "resize_to": _height_width("size", value, ' or {"shortest_edge"}')}


def _height_width(field: str, value: object, also: str = "") -> tuple[int, int]:
    if isinstance(value, Mapping) and set(value) == {"height", "width"}:
        return _side(field, value["height"]), _side(field, value["width"])
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return _side(field, value[0]), _side(field, value[1])
    if isinstance(value, int):
        return _side(field, value), _side(field, value)
    raise _invalid(field, value, f'a whole number, [height, width], {{"height", "width"}}{also}')


def _side(field: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise _invalid(field, value, "whole numbers of at least 1")


def _resample(value: object) -> Resampling:
    """Pillow's number or name, the name also with a prefix (``PILImageResampling.BICUBIC``)."""
    name = value.rsplit(".", 1)[-1].lower() if isinstance(value, str) else None
    number = value if isinstance(value, int) and not isinstance(value, bool) else None
    for index, valid in enumerate(RESAMPLINGS):
        if valid == name or index == number:
            return valid
    numbered = ", ".join(f"{index} ({valid})" for index, valid in enumerate(RESAMPLINGS))
    raise _invalid("resample", value, numbered)


def _invalid(field: str, value: object, valid: str) -> InputError:
    return InputError(f"preprocessor_config: {field} is {value!r}; valid: {valid}")
