"""Convert an image of any Pillow mode to 8-bit RGB or greyscale, with the same result on every platform."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from levit_edge.errors import InputError

_WHITE = (255, 255, 255, 255)
_MAX_16_BIT = 65535


def to_rgb(image: Image.Image) -> Image.Image:
    """The image as 8-bit RGB. For an animated or multi-page file, the frame that is loaded, which is the first.

    - RGBA, LA, PA, and palette, greyscale or RGB with a transparent colour: composited on white.
    - Palette, 1-bit, greyscale, YCbCr, HSV: Pillow's conversion, which is exact or uses the standard formula.
    - CMYK: Pillow's conversion, without a colour profile.
    - 16-bit greyscale (modes ``I;16*``, and ``I`` with values from 0 to 65535): divided by 257 and rounded, which maps
      0 to 0 and 65535 to 255. Pillow itself would clip the values or drop the low byte.
    - ``F``: values from 0 to 1 are multiplied by 255, values up to 255 stay; then they are rounded.

    Wider integers, other floats and NaN raise InputError, because their range is not known. EXIF orientation is not
    applied: transformers does not apply it either, and published accuracies are measured without it.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_to_8_bit(np.asarray(image)))
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def to_channels(image: Image.Image, num_channels: int) -> Image.Image:
    """The image in mode RGB (3 channels) or L (1 channel: 0.299 red + 0.587 green + 0.114 blue)."""
    rgb = to_rgb(image)
    return rgb if num_channels == 3 else rgb.convert("L")


def _to_8_bit(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if not (low >= 0 and high <= 255):
            raise InputError(f"floating-point pixels from {low:g} to {high:g}; valid: 0 to 1 or 0 to 255")
        return np.asarray(np.rint(values * 255 if high <= 1 else values), dtype=np.uint8)
    if low < 0 or high > _MAX_16_BIT:
        raise InputError(f"integer pixels from {low} to {high}; valid: 0 to {_MAX_16_BIT}")
    return np.asarray((values.astype(np.uint32) + 128) // 257, dtype=np.uint8)
