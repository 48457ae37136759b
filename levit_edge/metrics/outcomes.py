"""What became of every single image of a pass, a few bits each, so that two reports can be compared image by image."""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from levit_edge.record import Record

MAX_IMAGES = 100_000_000  # what a reader unpacks at most: 12.5 MB for each of the three

Flags = NDArray[np.bool_]


class OutcomeFlags(NamedTuple):
    """One bool [n] for each question, in the order of the pass; the names are those of :class:`Outcomes`."""

    right_fp32: Flags
    right: Flags
    agrees: Flags


class Outcomes(Record):
    """Three bits for each of ``n`` images, in the order of the pass.

    ``right_fp32``: the float model's best class is the image's; ``right``: the built model's is; ``agrees``: both have
    the same best class. An image without a known class is right in neither. Each is the base64 of the zlib-compressed
    bits, eight to a byte with the first image in the highest bit (``numpy.packbits``), and zeros after the last one.
    Compare the flags and not the texts: another zlib may compress the same bits to other bytes.

    Raises ValidationError for a text that does not hold ``n`` bits, and for answers that exclude each other.
    """

    n: int = Field(ge=1, le=MAX_IMAGES)
    right_fp32: str
    right: str
    agrees: str

    @classmethod
    def of(cls, right_fp32: Flags, right: Flags, agrees: Flags) -> Outcomes:
        """From bool [n] each; ValueError when the lengths differ."""
        if not right_fp32.shape == right.shape == agrees.shape == (len(agrees),):
            raise ValueError(f"shapes {right_fp32.shape}, {right.shape} and {agrees.shape} are not one [n]")
        return cls(n=len(agrees), right_fp32=_packed(right_fp32), right=_packed(right), agrees=_packed(agrees))

    def flags(self) -> OutcomeFlags:
        """The bits as bool arrays [n]."""
        return OutcomeFlags(*(_unpacked(name, getattr(self, name), self.n) for name in OutcomeFlags._fields))

    @model_validator(mode="after")
    def _check(self) -> Outcomes:
        right_fp32, right, agrees = self.flags()
        impossible = (agrees & (right_fp32 != right)) | (right_fp32 & right & ~agrees)
        if impossible.any():
            raise ValueError(
                f"image {int(impossible.argmax())}: two equal answers are both right or both wrong, "
                "and two right answers are equal"
            )
        return self


def _packed(flags: Flags) -> str:
    return base64.b64encode(zlib.compress(np.packbits(flags).tobytes(), 9)).decode("ascii")


def _unpacked(name: str, text: str, n: int) -> Flags:
    """The bits of ``text``; ValueError that says ``name``. Never unpacks more than the bytes that ``n`` bits take."""
    size = -(-n // 8)
    unzip = zlib.decompressobj()
    try:
        data = unzip.decompress(base64.b64decode(text, validate=True), size + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise ValueError(f"{name} is not base64 of zlib-compressed bits: {error}") from None
    if len(data) != size or not unzip.eof or unzip.unused_data:
        raise ValueError(f"{name} does not hold the bits of {n} images, which take {size} bytes")
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8)).astype(np.bool_)
    if bits[n:].any():
        raise ValueError(f"{name} has bits behind those of its {n} images")
    flags: Flags = bits[:n]
    return flags
