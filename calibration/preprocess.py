"""Turn a PIL image into the model's input, exactly as transformers' LevitImageProcessor does with its PIL backend."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from calibration.decoding import check_area
from calibration.pixel_modes import to_channels
from levit_edge.errors import InputError
from levit_edge.families.preprocessing import Preprocessing

Pixels = npt.NDArray[np.uint8]
Inputs = npt.NDArray[np.float32]


def to_pixels(image: Image.Image, preprocessing: Preprocessing) -> Pixels:
    """Convert to RGB or greyscale, resize, and crop the centre: uint8 [H, W, C], contiguous.

    Raises InputError when the resized or cropped image would have too many pixels.
    """
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
    """The (height, width) to which an image of ``size`` (height, width) is resized.

    Without a fixed size, the shorter side becomes ``shortest_edge`` * 256 / 224, the margin of the usual evaluation on
    ImageNet, and the aspect ratio stays.
    """
    if preprocessing.resize_to is not None:
        return preprocessing.resize_to
    short = int((256 / 224) * cast("int", preprocessing.shortest_edge))  # set whenever resize_to is not
    height, width = size
    if width <= height:
        return int(short * height / width), short
    return short, int(short * width / height)


def center_crop(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Cut ``size`` (height, width) out of the middle of uint8 [H, W, C]; a side that is too short is padded with zeros.

    When an odd number of pixels is cut off, one more is cut after the crop than before it; when an odd number is
    added, one more is added before the image than after it.
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
    """Along one axis: which pixels to keep, and the position of the first of them in the result."""
    if length >= target:
        start = (length - target) // 2
        return slice(start, start + target), 0
    return slice(0, length), (target - length + 1) // 2


def normalize(pixels: Pixels, preprocessing: Preprocessing) -> Inputs:
    """Rescale and normalise uint8 [..., H, W, C], one image or a batch, to contiguous float32 [..., C, H, W].

    Each of the 256 values that a channel can have is computed once, with the precision and in the order of
    transformers, and then looked up for every pixel.
    """
    *batch, height, width, channels = pixels.shape
    levels = _levels(preprocessing)  # [C, 256]
    inputs = np.empty((*batch, channels, height, width), dtype=np.float32)
    for channel in range(channels):
        np.take(levels[channel], pixels[..., channel], out=inputs[..., channel, :, :], mode="clip")
    return inputs


def _levels(preprocessing: Preprocessing) -> Inputs:
    """What each uint8 value becomes in each channel: float32 [C, 256]."""
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
    """Raise InputError about ``what`` unless ``pixels`` [..., H, W, C] have the ``expected`` (height, width)."""
    height, width = pixels.shape[-3:-1]
    if (height, width) != expected:
        raise InputError(
            f"{what} is {height}x{width} (height x width) after preprocessing; the model takes "
            f"{expected[0]}x{expected[1]}: set do_center_crop and crop_size, or do_resize and size, accordingly"
        )
