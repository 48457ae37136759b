"""From a PIL image to the model's input, with the semantics of transformers' LevitImageProcessor (PIL backend)."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from calibration.decoding import check_area
from calibration.modes import to_channels
from levit_edge.errors import InputError
from levit_edge.families.preprocessing import Preprocessing

Pixels = npt.NDArray[np.uint8]
Inputs = npt.NDArray[np.float32]


def to_pixels(image: Image.Image, preprocessing: Preprocessing) -> Pixels:
    """Convert to RGB (or grey), resize and centre crop: uint8 [height, width, channels]."""
    image = to_channels(image, preprocessing.num_channels)
    if preprocessing.do_resize:
        height, width = resized_size((image.height, image.width), preprocessing)
        check_area(height, width)
        image = image.resize((width, height), Image.Resampling[preprocessing.resample.upper()])
    pixels: Pixels = np.array(image, dtype=np.uint8)
    pixels = pixels.reshape(image.height, image.width, preprocessing.num_channels)  # [H, W] or [H, W, C] -> [H, W, C]
    if preprocessing.do_center_crop:
        check_area(*preprocessing.crop_size)
        pixels = center_crop(pixels, preprocessing.crop_size)
    return np.ascontiguousarray(pixels)


def resized_size(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """(height, width) after the resize of an image of ``size`` (height, width)."""
    if preprocessing.resize_to is not None:
        return preprocessing.resize_to
    short = int((256 / 224) * cast("int", preprocessing.shortest_edge))  # one of the two is always set
    height, width = size
    if width <= height:
        return int(short * height / width), short
    return short, int(short * width / height)


def center_crop(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Cut ``size`` out of the middle of [H, W, C]; a side that is too short is padded with zeros around the middle.

    An odd remainder leaves the larger part after the crop, and the larger part of a padding before the image.
    """
    rows, row_start = _crop_axis(pixels.shape[0], size[0])
    columns, column_start = _crop_axis(pixels.shape[1], size[1])
    cut = pixels[rows, columns]
    if cut.shape[:2] == size:
        return cut
    padded = np.zeros((*size, pixels.shape[2]), dtype=np.uint8)
    padded[row_start : row_start + cut.shape[0], column_start : column_start + cut.shape[1]] = cut
    return padded


def _crop_axis(length: int, target: int) -> tuple[slice, int]:
    """What to take of one axis, and where it starts in the result."""
    if length >= target:
        start = (length - target) // 2
        return slice(start, start + target), 0
    return slice(0, length), (target - length + 1) // 2


def normalize(pixels: Pixels, preprocessing: Preprocessing) -> Inputs:
    """Rescale and normalise uint8 [..., H, W, C] to contiguous float32 [..., C, H, W], for one image or a batch.

    There are only 256 values a channel, so each is computed once, in transformers' precision and order.
    """
    *batch, height, width, channels = pixels.shape
    levels = _levels(preprocessing)  # [C, 256]
    inputs = np.empty((*batch, channels, height, width), dtype=np.float32)
    for channel in range(channels):
        np.take(levels[channel], pixels[..., channel], out=inputs[..., channel, :, :], mode="clip")
    return inputs


def _levels(preprocessing: Preprocessing) -> Inputs:
    """The normalised value of each uint8 value in each channel: float32 [C, 256]."""
    values = np.tile(np.arange(256, dtype=np.float64), (preprocessing.num_channels, 1))
    if preprocessing.do_rescale:
        values = values * preprocessing.rescale_factor
    levels = values.astype(np.float32)
    if preprocessing.do_normalize:
        mean = np.array(preprocessing.image_mean, dtype=np.float32)[:, None]  # [C, 1]
        std = np.array(preprocessing.image_std, dtype=np.float32)[:, None]  # [C, 1]
        levels = (levels - mean) / std
    return levels


def check_size(pixels: Pixels, expected: tuple[int, int], what: str = "image") -> None:
    """Raise InputError unless [..., H, W, C] has the (height, width) that the model takes."""
    height, width = pixels.shape[-3:-1]
    if (height, width) != expected:
        raise InputError(
            f"{what} is {height}x{width} (height x width) after preprocessing; the model takes "
            f"{expected[0]}x{expected[1]}: set do_center_crop and crop_size, or do_resize and size, accordingly"
        )
