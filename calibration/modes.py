"""Any Pillow image mode to 8-bit RGB or greyscale, by rules that are the same on every platform."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from levit_edge.errors import InputError

_WHITE = (255, 255, 255, 255)
_MAX_16_BIT = 65535


def to_rgb(image: Image.Image) -> Image.Image:
    """The image as 8-bit RGB; of an animated or multi-page file, the frame that is loaded (the first).

    - RGBA, LA, PA, and palette, greyscale or RGB with a transparent colour: composited on white.
    - palette, 1-bit, greyscale, YCbCr, HSV: Pillow's conversion, which is exact or the standard formula.
    - CMYK: Pillow's conversion, without colour profile.
    - 16-bit greyscale (modes ``I;16*``, and ``I`` with values 0 to 65535): divided by 257 and rounded, so that the
      full range stays the full range; no clipping and no dropping of the low byte.
    - ``F``: 0 to 1 is scaled to 0 to 255, values up to 255 are taken as they are; both rounded.

    Wider integers, other floats and NaN raise InputError, for their range is unknown. EXIF orientation is not
    applied: transformers does not apply it, and a model's accuracy is stated without it.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_to_8_bit(np.asarray(image)))
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        image = _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def to_channels(image: Image.Image, num_channels: int) -> Image.Image:
    """The image in mode RGB (3 channels) or L (1 channel, by the luma weights 0.299, 0.587, 0.114)."""
    rgb = to_rgb(image)
    return rgb if num_channels == 3 else rgb.convert("L")


def _on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image)


def _to_8_bit(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if not (low >= 0 and high <= 255):
            raise InputError(f"floating-point pixels from {low:g} to {high:g}; valid: 0 to 1 or 0 to 255")
        return np.asarray(np.rint(values * 255 if high <= 1 else values), dtype=np.uint8)
    if low < 0 or high > _MAX_16_BIT:
        raise InputError(f"integer pixels from {low} to {high}; valid: 0 to {_MAX_16_BIT}")
    return np.asarray((values.astype(np.uint32) + 128) // 257, dtype=np.uint8)
