"""From the bytes of an image file to a fully loaded PIL image, or one line that says why not."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from calibration.names import printable
from levit_edge.errors import InputError

# Pillow's own threshold for a likely decompression bomb: a quarter of a GiB at 3 bytes a pixel.
MAX_PIXELS = 2**30 // 4 // 3

# Decoders that work inside this process on the bytes alone; Pillow's EPS reader, for one, starts Ghostscript.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")


class BadImageError(InputError):
    """One image cannot be used; ``name`` and ``reason`` are kept apart for lists of skipped images."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"image {printable(name)}: {reason}")
        self.name = name
        self.reason = reason


def decode(data: bytes, name: str) -> Image.Image:
    """The first frame of the image in ``data``, loaded completely; raises BadImageError for anything less.

    The size is checked before any pixel is decoded. EXIF orientation is left as stored, as transformers and the
    usual ImageNet evaluation leave it.
    """
    Image.init()  # registers all formats; without it, naming one that Pillow loads late is a KeyError
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
    except Exception as error:  # damaged files make Pillow's format readers raise nearly any exception
        raise BadImageError(name, f"damaged or cut short: {_one_line(error)}") from error
    return image


def check_area(height: int, width: int) -> None:
    """Refuse an image of more than MAX_PIXELS."""
    if height * width > MAX_PIXELS:
        raise InputError(f"{height}x{width} are too many pixels; the limit is {MAX_PIXELS}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
