"""Every kind of image file becomes the RGB that its rule says, computed here by other means."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from calibration import decode, to_rgb
from levit_edge.errors import InputError

Encode = Callable[..., bytes]


def _rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    result = to_rgb(image)
    assert result.mode == "RGB"
    return np.array(result)


def _ramp(*shape: int) -> npt.NDArray[np.uint8]:
    return (np.arange(np.prod(shape)) * 7 % 256).astype(np.uint8).reshape(shape)


def _on_white(rgb: npt.NDArray[Any], alpha: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    share = alpha[..., None] / 255.0
    return np.asarray(rgb * share + 255.0 * (1 - share), dtype=np.float64)


def test_rgb_is_unchanged() -> None:
    values = _ramp(6, 7, 3)
    np.testing.assert_array_equal(_rgb(Image.fromarray(values)), values)


@pytest.mark.parametrize("mode", ["RGBA", "RGBa"])
def test_alpha_is_composited_on_white(mode: str) -> None:
    values = _ramp(16, 16, 4)
    expected = _on_white(values[..., :3], values[..., 3])
    tolerance = 1 if mode == "RGBA" else 128 / np.maximum(values[..., 3:], 1) + 2  # premultiplied values lose precision
    assert (np.abs(_rgb(Image.fromarray(values).convert(mode)) - expected) <= tolerance).all()


@pytest.mark.parametrize("mode", ["LA", "PA"])
def test_grey_with_alpha_is_composited_on_white(mode: str) -> None:
    grey, alpha = _ramp(12, 12), _ramp(12, 12)[::-1]
    image = Image.frombytes(mode, (12, 12), np.stack([grey, alpha], axis=-1).tobytes())
    if mode == "PA":
        image.putpalette(bytes(np.repeat(np.arange(256, dtype=np.uint8), 3)))
    expected = _on_white(np.repeat(grey[..., None], 3, axis=-1), alpha)
    np.testing.assert_allclose(_rgb(image), expected, atol=1)


def test_premultiplied_grey_is_accepted() -> None:
    image = Image.merge("LA", [Image.new("L", (3, 3), 100), Image.new("L", (3, 3), 255)]).convert("La")
    np.testing.assert_array_equal(_rgb(image), np.full((3, 3, 3), 100))


def _palette() -> Image.Image:
    image = Image.new("P", (2, 2))
    image.putdata([0, 1, 2, 1])
    image.putpalette([10, 20, 30, 200, 100, 0, 7, 8, 9])
    return image


def test_palette() -> None:
    expected = [[[10, 20, 30], [200, 100, 0]], [[7, 8, 9], [200, 100, 0]]]
    np.testing.assert_array_equal(_rgb(_palette()), expected)


@pytest.mark.parametrize("transparency", [1, bytes([255, 0, 255])], ids=["index", "alpha table"])
def test_a_transparent_palette_entry_is_white(transparency: int | bytes) -> None:
    buffer = io.BytesIO()
    _palette().save(buffer, format="PNG", transparency=transparency)
    expected = [[[10, 20, 30], [255, 255, 255]], [[7, 8, 9], [255, 255, 255]]]
    np.testing.assert_array_equal(_rgb(decode(buffer.getvalue(), "p.png")), expected)


@pytest.mark.parametrize(("mode", "key"), [("RGB", (9, 9, 9)), ("L", 9)])
def test_a_transparent_colour_is_white(mode: str, key: Any) -> None:
    image = Image.new(mode, (2, 1), (50, 50, 50) if mode == "RGB" else 50)
    image.putpixel((1, 0), key)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", transparency=key)
    np.testing.assert_array_equal(_rgb(decode(buffer.getvalue(), "k.png")), [[[50] * 3, [255] * 3]])


def test_cmyk() -> None:
    values = _ramp(8, 8, 4)
    cyan_magenta_yellow, black = values[..., :3].astype(float), values[..., 3:].astype(float)
    expected = (255 - cyan_magenta_yellow) * (255 - black) / 255
    image = Image.frombytes("CMYK", (8, 8), values.tobytes())
    np.testing.assert_allclose(_rgb(image), expected, atol=1)


@pytest.mark.parametrize("mode", ["1", "L", "YCbCr", "HSV"])
def test_other_8_bit_modes(mode: str) -> None:
    grey = Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode)
    np.testing.assert_array_equal(_rgb(grey), np.full((4, 4, 3), 255))


SIXTEEN = np.array([[0, 128, 129, 257], [32767, 32896, 65406, 65535]], dtype=np.uint16)
SIXTEEN_AS_8 = np.array([[0, 0, 1, 1], [127, 128, 254, 255]])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "I"])
def test_16_bit_grey_is_scaled_over_the_full_range(encode: Encode, kind: str) -> None:
    image = Image.fromarray(SIXTEEN)
    image = Image.fromarray(SIXTEEN.astype(np.int32)) if kind == "I" else decode(encode(image, kind), "s")
    np.testing.assert_array_equal(_rgb(image), np.repeat(SIXTEEN_AS_8[..., None], 3, axis=-1))


def test_big_endian_16_bit() -> None:
    image = Image.frombytes("I;16B", (4, 2), SIXTEEN.astype(">u2").tobytes())
    np.testing.assert_array_equal(_rgb(image)[..., 0], SIXTEEN_AS_8)


@pytest.mark.parametrize("values", [[-1, 5], [0, 65536]])
def test_integers_of_unknown_range_are_refused(values: list[int]) -> None:
    with pytest.raises(InputError, match="valid: 0 to 65535"):
        to_rgb(Image.fromarray(np.array([values], dtype=np.int32)))


@pytest.mark.parametrize(
    ("values", "expected"), [([0.0, 0.5, 1.0], [0, 128, 255]), ([0.0, 99.6, 255.0], [0, 100, 255])]
)
def test_floats(values: list[float], expected: list[int]) -> None:
    image = Image.fromarray(np.array([values], dtype=np.float32))
    np.testing.assert_array_equal(_rgb(image)[0, :, 0], expected)


@pytest.mark.parametrize("value", [-0.1, 255.5, float("nan"), float("inf")])
def test_floats_of_unknown_range_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="valid: 0 to 1 or 0 to 255"):
        to_rgb(Image.fromarray(np.array([[0.0, value]], dtype=np.float32)))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((250, 0, 0), (0, 0, 250))]
    buffer = io.BytesIO()
    frames[0].save(buffer, format=kind, save_all=True, append_images=frames[1:], lossless=True)
    first = _rgb(decode(buffer.getvalue(), "a"))
    assert first.shape == (8, 8, 3)
    np.testing.assert_allclose(first[4, 4], (250, 0, 0), atol=6)


def test_exif_orientation_is_not_applied(encode: Encode) -> None:
    image = Image.new("RGB", (4, 2), (1, 2, 3))
    exif = image.getexif()
    exif[0x0112] = 6  # rotated by 90 degrees
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", exif=exif)
    assert to_rgb(decode(buffer.getvalue(), "r.jpg")).size == (4, 2)
