"""Decode an image file into a PIL image, or say in one line why it cannot be decoded."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from levit_edge.errors import InputError
from levit_edge.wording import first_line, printable

# The size from which Pillow warns about a decompression bomb: a quarter of a GiB at 3 bytes per pixel.
MAX_PIXELS = 2**30 // 4 // 3

# Formats that Pillow decodes inside this process, from the bytes alone. Its EPS reader, by contrast, runs Ghostscript.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")


class BadImageError(InputError):
    """An image cannot be used. ``name`` and ``reason`` can also be shown separately, in a list of skipped images."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"image {printable(name)}: {reason}")
        self.name = name
        self.reason = reason


def decode(data: bytes, name: str) -> Image.Image:
    """The first frame of the image in ``data``, fully decoded.

    Raises BadImageError for an unknown format, a damaged or truncated file, and more than MAX_PIXELS pixels; the size
    is checked before any pixel is decoded. EXIF orientation is not applied, as in transformers and in the usual
    evaluation on ImageNet.
    """
    Image.init()  # registers all formats; without it, some of FORMATS would be a KeyError
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        check_area(image.height, image.width)
        image.load()
    except InputError as error:
        raise BadImageError(name, str(error)) from error
    except UnidentifiedImageError as error:
        raise BadImageError(name, f"not an image in a known format; valid: {', '.join(FORMATS)}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImageError(name, f"too many pixels; the limit is {MAX_PIXELS}") from error
    except Exception as error:  # a damaged file can make Pillow's readers raise nearly any exception
        raise BadImageError(name, f"damaged or cut short: {first_line(error)}") from error
    return image


def check_area(height: int, width: int) -> None:
    """Raise InputError for an image of more than MAX_PIXELS pixels."""
    if height * width > MAX_PIXELS:
        raise InputError(f"{height}x{width} are too many pixels; the limit is {MAX_PIXELS}")
