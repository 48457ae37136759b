"""Stream images as model inputs: decoded by several threads, in order, never more than a few at a time."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.dataset import ImageItem, ImageSet
from calibration.decoding import BadImageError, decode
from calibration.preprocess import Inputs, Pixels, check_size, normalize, to_pixels
from levit_edge.errors import InputError
from levit_edge.families.preprocessing import Preprocessing

AHEAD_PER_WORKER = 2
UNKNOWN_CLASS = -1

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Batch:
    """Preprocessed images in order."""

    inputs: Inputs  # [B, C, H, W], contiguous
    pixels: Pixels  # [B, H, W, C], before rescaling and normalisation
    class_index: npt.NDArray[np.int64]  # [B], UNKNOWN_CLASS where the model has no such class
    names: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = ()


def image_pixels(data: bytes, name: str, preprocessing: Preprocessing) -> Pixels:
    """Decode, resize and crop one image file: uint8 [H, W, C]; raises BadImageError with its name."""
    image = decode(data, name)
    try:
        return to_pixels(image, preprocessing)
    except InputError as error:
        raise BadImageError(name, str(error)) from error


def load(
    image_set: ImageSet,
    items: Iterable[ImageItem],
    preprocessing: Preprocessing,
    *,
    batch_size: int = 1,
    workers: int = 2,
    skip_bad_images: bool = False,
) -> Loader:
    """An iterable of batches over ``items``; the last batch may be smaller. See :class:`Loader`."""
    for field, value in (("batch_size", batch_size), ("workers", workers)):
        if value < 1:
            raise InputError(f"{field} is {value}; it must be at least 1")
    return Loader(image_set, tuple(items), preprocessing, batch_size, workers, skip_bad_images)


class Loader:
    """Batches in the order of the items, from the beginning at each iteration.

    At most ``workers * AHEAD_PER_WORKER`` preprocessed images and one batch are held, however many items there are.
    A bad image raises BadImageError; with ``skip_bad_images`` it is left out and (name, reason) is added to
    ``skipped``, which belongs to the latest iteration. Closing the iterator stops the threads.
    """

    def __init__(
        self,
        image_set: ImageSet,
        items: Sequence[ImageItem],
        preprocessing: Preprocessing,
        batch_size: int,
        workers: int,
        skip_bad_images: bool,
    ) -> None:
        self.skipped: list[tuple[str, str]] = []
        self._image_set = image_set
        self._items = items
        self._preprocessing = preprocessing
        self._batch_size = batch_size
        self._workers = workers
        self._skip_bad_images = skip_bad_images

    def __iter__(self) -> Generator[Batch, None, None]:
        self.skipped = []
        group: list[tuple[ImageItem, Pixels]] = []
        with closing(self._in_order()) as images:
            for image in images:
                group.append(image)
                if len(group) == self._batch_size:
                    yield _batch(group, self._preprocessing)
                    group = []
        if group:
            yield _batch(group, self._preprocessing)

    def _in_order(self) -> Generator[tuple[ImageItem, Pixels], None, None]:
        waiting: deque[tuple[ImageItem, Future[Pixels]]] = deque()
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="images")
        try:
            for item in self._items:
                waiting.append((item, pool.submit(self._pixels, item)))
                if len(waiting) == self._workers * AHEAD_PER_WORKER:
                    yield from self._finish(*waiting.popleft())
            while waiting:
                yield from self._finish(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _pixels(self, item: ImageItem) -> Pixels:
        return image_pixels(self._image_set.read(item), item.name, self._preprocessing)

    def _finish(self, item: ImageItem, future: Future[Pixels]) -> Iterable[tuple[ImageItem, Pixels]]:
        try:
            return [(item, future.result())]
        except BadImageError as error:
            if not self._skip_bad_images:
                raise
            logger.warning("skipped: %s", error)
            self.skipped.append((error.name, error.reason))
            return []


def _batch(group: Sequence[tuple[ImageItem, Pixels]], preprocessing: Preprocessing) -> Batch:
    first = group[0][1]
    for item, image in group:
        check_size(image, first.shape[:2], f"image {item.name}")
    pixels = np.stack([image for _, image in group])  # [B, H, W, C]
    indices = [UNKNOWN_CLASS if item.class_index is None else item.class_index for item, _ in group]
    names = tuple(item.name for item, _ in group)
    return Batch(normalize(pixels, preprocessing), pixels, np.array(indices, dtype=np.int64), names)
