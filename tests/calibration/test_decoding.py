"""Whatever is wrong with an image file, the outcome is one line with its name."""

from __future__ import annotations

import contextlib
import struct
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import calibration.decoding
from calibration import BadImageError, decode

MakePhoto = Callable[..., Image.Image]
Encode = Callable[..., bytes]
KINDS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")


def _png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_image_is_loaded(photo: MakePhoto, encode: Encode, kind: str) -> None:
    image = decode(encode(photo(20, 30), kind), "a")
    assert (image.height, image.width) == (20, 30)
    assert image.convert("RGB").getpixel((3, 3)) is not None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_truncated_image_is_refused(photo: MakePhoto, encode: Encode, kind: str, share: float) -> None:
    data = encode(photo(64, 64), kind)
    with pytest.raises(BadImageError, match=r"^image x/y\.png: "):
        decode(data[: int(len(data) * share)], "x/y.png")


@pytest.mark.parametrize("data", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n", bytes(1000)])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(BadImageError, match="not an image in a known format; valid: JPEG") as caught:
        decode(data, "a.png")
    assert (caught.value.name, caught.value.exit_code) == ("a.png", 2)


def test_a_corrupt_image_is_refused(photo: MakePhoto, encode: Encode) -> None:
    data = bytearray(encode(photo(64, 64)))
    data[200:220] = bytes(20)
    with pytest.raises(BadImageError, match=r"^image a\.png: damaged or cut short: "):
        decode(bytes(data), "a.png")


@pytest.mark.parametrize("side", [10_000, 30_000, 2**31 - 1])
@pytest.mark.parametrize("action", ["error", "ignore"])
def test_a_decompression_bomb_is_refused(side: int, action: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error" if action == "error" else "ignore", Image.DecompressionBombWarning)
        with pytest.raises(BadImageError, match="too many pixels; the limit is 89478485"):
            decode(_png_header(side, side), "bomb.png")


def test_the_size_is_checked_before_decoding(monkeypatch: pytest.MonkeyPatch, photo: MakePhoto, encode: Encode) -> None:
    data = encode(photo(10, 10))
    monkeypatch.setattr(calibration.decoding, "MAX_PIXELS", 99)
    with pytest.raises(BadImageError, match="10x10 are too many pixels; the limit is 99"):
        decode(data, "a.png")
    monkeypatch.setattr(calibration.decoding, "MAX_PIXELS", 100)
    assert decode(data, "a.png").size == (10, 10)


def test_a_name_cannot_break_the_line() -> None:
    with pytest.raises(BadImageError) as caught:
        decode(b"", "a\nb\x1b.png")
    assert str(caught.value).startswith(r"image a\nb\x1b.png: ")


@settings(max_examples=80, deadline=None)
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_damage_gives_an_image_or_bad_image_error(
    photo: MakePhoto, encode: Encode, data: st.DataObject, kind: str
) -> None:
    blob = bytearray(encode(photo(24, 24), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(BadImageError):
            assert decode(bytes(blob), "a").tobytes()


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(1, 4000), kind=st.sampled_from(KINDS))
def test_a_cut_file_is_refused_unless_every_pixel_is_there(
    photo: MakePhoto, encode: Encode, cut: int, kind: str
) -> None:
    whole = encode(photo(24, 24), kind)
    try:
        found = decode(whole[: max(len(whole) - cut, 0)], "a")
    except BadImageError:
        return
    np.testing.assert_array_equal(np.asarray(found), np.asarray(decode(whole, "a")))
