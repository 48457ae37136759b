"""Load images as model inputs, batch by batch: several threads decode, and only a few images are in memory."""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from calibration.dataset import ImageItem, ImageSet
from calibration.decoding import BadImageError, decode
from calibration.preprocess import Inputs, Pixels, check_size, normalize, to_pixels
from levit_edge.errors import InputError
from levit_edge.families.preprocessing import Preprocessing
from levit_edge.wording import printable

AHEAD_PER_WORKER = 2
UNKNOWN_CLASS = -1

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Batch:
    """Preprocessed images, in the order of the items that were loaded.

    ``skipped`` are the name and the reason of each image that was left out between the last image of the previous batch
    and the first of the next one. The batches of one pass therefore list every image that was left out exactly once.
    ``file_sha256`` are the SHA-256 sums (32 bytes each) of the image files; empty for images that are no files.
    """

    inputs: Inputs  # float32 [B, C, H, W], contiguous; writable, as torch.from_numpy wants it
    pixels: Pixels  # uint8 [B, H, W, C], before rescaling and normalising
    class_index: npt.NDArray[np.int64]  # [B], UNKNOWN_CLASS for an image without a class index
    names: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    file_sha256: tuple[bytes, ...] = ()


class _Decoded(NamedTuple):
    """One image as it will be in a batch, and the SHA-256 of its file."""

    pixels: Pixels
    file_sha256: bytes


@dataclass(frozen=True, eq=False)
class Loader:
    """The batches of some images. Every iteration starts from the first image.

    It holds one batch and at most ``workers * AHEAD_PER_WORKER`` images more, however many items there are. Closing the
    iterator ends its threads.

    A bad image raises BadImageError; with ``skip_bad_images`` it is left out, logged, and listed in
    :attr:`Batch.skipped`. If every image is bad, InputError is raised instead. Images of different sizes in one batch
    raise InputError too.
    """

    image_set: ImageSet
    items: tuple[ImageItem, ...]
    preprocessing: Preprocessing
    batch_size: int
    workers: int
    skip_bad_images: bool

    def __iter__(self) -> Generator[Batch, None, None]:
        group: list[tuple[ImageItem, _Decoded]] = []
        skipped: list[tuple[str, str]] = []
        with closing(self._outcomes()) as outcomes:
            for item, outcome in outcomes:
                if isinstance(outcome, BadImageError):
                    skipped.append(self._skip(outcome))
                    continue
                if len(group) == self.batch_size:  # only now is it known that no bad image comes directly behind it
                    yield _batch(group, self.preprocessing, skipped)
                    group, skipped = [], []
                group.append((item, outcome))
        if group:
            yield _batch(group, self.preprocessing, skipped)
        elif skipped:
            name, reason = skipped[0]
            what = f"none of the {len(skipped)} images could be read"
            raise InputError(f"{self.image_set.path}: {what}; image {printable(name)}: {reason}")

    def _skip(self, error: BadImageError) -> tuple[str, str]:
        if not self.skip_bad_images:
            raise error
        logger.warning("skipped: %s", error)
        return error.name, error.reason

    def _outcomes(self) -> Generator[tuple[ImageItem, _Decoded | BadImageError], None, None]:
        """What became of each item, in order. The threads work on the next few items in the meantime."""
        waiting: deque[tuple[ImageItem, Future[_Decoded | BadImageError]]] = deque()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="images")
        try:
            for item in self.items:
                waiting.append((item, pool.submit(self._outcome, item)))
                if len(waiting) == self.workers * AHEAD_PER_WORKER:
                    yield _result(*waiting.popleft())
            while waiting:
                yield _result(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _outcome(self, item: ImageItem) -> _Decoded | BadImageError:
        try:
            data = self.image_set.read(item)
            return _Decoded(image_pixels(data, item.name, self.preprocessing), hashlib.sha256(data).digest())
        except BadImageError as error:
            return error


def load(
    image_set: ImageSet,
    items: Iterable[ImageItem],
    preprocessing: Preprocessing,
    *,
    batch_size: int = 1,
    workers: int = 2,
    skip_bad_images: bool = False,
) -> Loader:
    """The batches of ``items``, to be iterated over; see :class:`Loader`. The last batch may be smaller.

    Raises InputError when ``batch_size`` or ``workers`` is below 1.
    """
    for field, value in (("batch_size", batch_size), ("workers", workers)):
        if value < 1:
            raise InputError(f"{field} is {value}; it must be at least 1")
    return Loader(image_set, tuple(items), preprocessing, batch_size, workers, skip_bad_images)


def image_pixels(data: bytes, name: str, preprocessing: Preprocessing) -> Pixels:
    """Decode, resize and crop one image file: uint8 [H, W, C]. Raises BadImageError, which says ``name``."""
    image = decode(data, name)
    try:
        return to_pixels(image, preprocessing)
    except InputError as error:
        raise BadImageError(name, str(error)) from error


def _result(item: ImageItem, future: Future[_Decoded | BadImageError]) -> tuple[ImageItem, _Decoded | BadImageError]:
    """The item and its outcome. A function, so that no variable keeps the image alive any longer."""
    return item, future.result()


def _batch(
    group: Sequence[tuple[ImageItem, _Decoded]], preprocessing: Preprocessing, skipped: Sequence[tuple[str, str]]
) -> Batch:
    size = group[0][1].pixels.shape[:2]
    for item, image in group:
        check_size(image.pixels, size, f"image {item.name}")
    pixels = np.stack([image.pixels for _, image in group])  # [B, H, W, C]
    indices = [UNKNOWN_CLASS if item.class_index is None else item.class_index for item, _ in group]
    return Batch(
        inputs=normalize(pixels, preprocessing),
        pixels=pixels,
        class_index=np.array(indices, dtype=np.int64),
        names=tuple(item.name for item, _ in group),
        skipped=tuple(skipped),
        file_sha256=tuple(image.file_sha256 for _, image in group),
    )
