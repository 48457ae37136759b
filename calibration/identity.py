"""Which images were used: SHA-256 sums over the preprocessing and the images, the same on every machine.

The files' own bytes are hashed and not the decoded pixels, because another release of Pillow or libjpeg may decode the
same file to pixels that differ in the last bit. The order counts, and so does everything that decides what the model
is shown.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from calibration.dataset import ImageItem, ImageSet
from calibration.loader import Batch
from levit_edge.families.preprocessing import Preprocessing

_CALIBRATION = b"levit-edge calibration 1"
_EVALUATION = b"levit-edge evaluation 1"


def calibration_hash(image_set: ImageSet, items: Sequence[ImageItem], preprocessing: Preprocessing, seed: int) -> str:
    """SHA-256 (hex) of all that calibration depends on.

    That is the preprocessing, the seed, and the names and bytes of ``items`` in their order. Raises BadImageError for
    an image that cannot be read.
    """
    digest = _Digest(_CALIBRATION, _parameters(preprocessing), str(seed).encode())
    for item in items:
        digest.add(_encoded(item.name))
        digest.add_hashed(hashlib.sha256(image_set.read(item)).digest())
    return digest.hexdigest()


class EvaluationHash:
    """SHA-256 of all that an evaluation depends on, gathered from the batches of its one pass.

    That is the preprocessing, and the name, class index and file content of each answered image in order. The loader
    hashes a file when it reads it, so no file is read twice and nothing is kept. ``n`` is the number of images so far.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.n = 0
        self._digest = _Digest(_EVALUATION, _parameters(preprocessing))

    def add(self, batch: Batch) -> None:
        """Add the images of one batch; ValueError when they do not come from files."""
        for name, index, content in zip(batch.names, batch.class_index.tolist(), batch.file_sha256, strict=True):
            self._digest.add(_encoded(name))
            self._digest.add(str(index).encode())
            self._digest.add_hashed(content)
            self.n += 1

    def hexdigest(self) -> str:
        """The sum over the images so far."""
        return self._digest.hexdigest()


class _Digest:
    """SHA-256 over parts that are each hashed first, so that no byte can move from one part to the next."""

    def __init__(self, *parts: bytes) -> None:
        self._sha256 = hashlib.sha256()
        for part in parts:
            self.add(part)

    def add(self, part: bytes) -> None:
        self.add_hashed(hashlib.sha256(part).digest())

    def add_hashed(self, sha256: bytes) -> None:
        self._sha256.update(sha256)

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()


def _parameters(preprocessing: Preprocessing) -> bytes:
    return json.dumps(preprocessing.summary(), sort_keys=True).encode()


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
