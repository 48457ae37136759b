"""Step 2: the images of a build: which calibrate, which evaluate, and how they come as batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration import (
    UNKNOWN_CLASS,
    Batch,
    EvaluationHash,
    ImageItem,
    ImageSet,
    load,
    normalize,
    open_dataset,
    remainder,
    sample,
)
from levit_edge.demo import CALIBRATION_FOLDER, EVALUATION_FOLDER, demo_archive
from levit_edge.errors import InputError
from levit_edge.families.preprocessing import Preprocessing
from levit_edge.pipeline.load import Subject
from levit_edge.pipeline.options import ModelOptions
from levit_edge.progress import Progress
from levit_edge.report.schema import EvaluationSet
from levit_edge.wording import listed

BATCH = 8
DECODERS = 2
COMPARED_IMAGES = 200  # on which programs, files and devices are compared; the accuracy covers all images
VERIFIED_IMAGES = 16  # on which each model file is compared with its program before anything else
HELD_OUT_LIMIT = 1000  # of the images that calibration left over; a data set given for evaluation is used whole


@dataclass(frozen=True)
class Selection:
    """Some images of one data set. ``skip_bad``: images that cannot be read are left out and listed in the batches."""

    source: str
    images: ImageSet
    items: tuple[ImageItem, ...]
    preprocessing: Preprocessing
    skip_bad: bool = False

    def batches(self, progress: Progress, label: str, size: int = BATCH) -> Iterator[Batch]:
        """Every image in order, each decoded once, in batches of at most ``size``."""
        loader = load(
            self.images,
            self.items,
            self.preprocessing,
            batch_size=size,
            workers=DECODERS,
            skip_bad_images=self.skip_bad,
        )
        return progress.track(loader, label, -(-len(self.items) // size))

    def first(self, count: int) -> Batch:
        """The first ``count`` images that can be read, all of them if there are fewer."""
        loader = load(self.images, self.items, self.preprocessing, batch_size=count, skip_bad_images=self.skip_bad)
        with closing(iter(loader)) as batches:
            return next(batches)

    def compared(self, count: int = COMPARED_IMAGES) -> frozenset[str]:
        """The names of ``count`` images at equal distances, of all if there are fewer."""
        if count >= len(self.items):
            return frozenset(item.name for item in self.items)
        return frozenset(self.items[index * len(self.items) // count].name for index in range(count))


class EvaluationPass:
    """The one pass over the images of an evaluation, and, once it is over, which images they were."""

    def __init__(self, selection: Selection) -> None:
        self._selection, self._hash = selection, EvaluationHash(selection.preprocessing)
        self._skipped: list[str] = []

    def batches(self, progress: Progress, label: str, size: int = BATCH) -> Iterator[Batch]:
        """Those of :meth:`Selection.batches`, each noted before it is handed out."""
        for batch in self._selection.batches(progress, label, size):
            self._hash.add(batch)
            self._skipped += [name for name, _ in batch.skipped]
            yield batch

    def result(self) -> EvaluationSet:
        """The images so far; ValidationError before the first."""
        return EvaluationSet(
            source=self._selection.source,
            n=self._hash.n,
            sha256=self._hash.hexdigest(),
            skipped_images=tuple(self._skipped),
        )


@dataclass(frozen=True)
class Images:
    """``calibration`` is None when the recipe needs none and none was given; ``evaluation`` when no image is left."""

    calibration: Selection | None
    evaluation: Selection | None

    def for_verification(self, subject: Subject, count: int = VERIFIED_IMAGES) -> tuple[str, Batch]:
        """(source, ``count`` images) to compare numbers on: of the evaluation, else of the calibration, else noise."""
        selection = self.evaluation or self.calibration
        if selection is None:
            return "noise", noise(count, subject)
        return selection.source, selection.first(count)


def noise(count: int, subject: Subject) -> Batch:
    """Images of uniform noise, the same every time."""
    shape = (count, subject.image_size, subject.image_size, subject.num_channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Batch(
        inputs=normalize(pixels, subject.preprocessing),
        pixels=pixels,
        class_index=np.full(count, UNKNOWN_CLASS),
        names=tuple(f"noise-{index}" for index in range(count)),
    )


@contextmanager
def open_images(options: ModelOptions, subject: Subject, *, calibrates: bool) -> Iterator[Images]:
    """The data sets of ``options``, open as long as the block lasts, and what was chosen from them.

    ``calibrates``: the recipe does. Raises InputError when it then has nothing to calibrate with.
    """
    with ExitStack() as stack:
        opener = _Opener(options, subject, stack)
        if options.model is None and options.calibration is None:
            yield opener.demo()
        else:
            yield opener.given(calibrates)


@dataclass(frozen=True)
class _Opener:
    """Opens data sets that stay open as long as ``stack``."""

    options: ModelOptions
    subject: Subject
    stack: ExitStack

    def demo(self) -> Images:
        """The images that the package carries; ``--eval`` replaces those for the evaluation."""
        archive, labels = demo_archive(), self.subject.labels
        images = self.stack.enter_context(open_dataset(archive, labels, subfolder=CALIBRATION_FOLDER))
        chosen = sample(images.items, self.options.samples, self.options.seed)
        calibration = self._selection(f"{archive.name}/{CALIBRATION_FOLDER}", images, chosen)
        if self.options.eval_data is not None:
            return Images(calibration, self._for_evaluation(self.options.eval_data))
        held_out = self.stack.enter_context(
            open_dataset(archive, labels, require_labels=True, subfolder=EVALUATION_FOLDER)
        )
        return Images(calibration, self._limited(f"{archive.name}/{EVALUATION_FOLDER}", held_out))

    def given(self, calibrates: bool) -> Images:
        """What the user named; without ``--eval``, images that were not drawn for calibration evaluate."""
        path, calibration, evaluation = self.options.calibration, None, None
        if path is not None:
            images = self.stack.enter_context(open_dataset(path, self.subject.labels))
            if self.options.samples > len(images.items):
                raise InputError(
                    f"{path} has {len(images.items)} images and {self.options.samples} are to be sampled; "
                    f"give --samples {len(images.items)} or fewer"
                )
            chosen = sample(images.items, self.options.samples, self.options.seed)
            calibration = self._selection(path.name, images, chosen)
            rest = remainder(images.items, chosen)
            if rest and self.options.eval_data is None:
                rest = sample(rest, min(len(rest), self.options.limit or HELD_OUT_LIMIT), self.options.seed)
                evaluation = self._selection(f"{path.name} (not sampled)", images, rest)
        elif calibrates:
            raise InputError(f"recipe {self.options.recipe} calibrates on images; name some with --calibration DATA")
        if self.options.eval_data is not None:
            evaluation = self._for_evaluation(self.options.eval_data)
        return Images(calibration, evaluation)

    def _for_evaluation(self, path: Path) -> Selection:
        images = self.stack.enter_context(open_dataset(path, self.subject.labels))
        check_classes(images, path)
        return self._limited(path.name, images)

    def _limited(self, source: str, images: ImageSet) -> Selection:
        return self._selection(source, images, limited(images.items, self.options.limit, self.options.seed))

    def _selection(self, source: str, images: ImageSet, items: tuple[ImageItem, ...]) -> Selection:
        return Selection(source, images, items, self.subject.preprocessing, self.options.skip_bad_images)


def limited(items: tuple[ImageItem, ...], limit: int | None, seed: int) -> tuple[ImageItem, ...]:
    """At most ``limit`` of ``items``, drawn over the classes by ``seed``."""
    return items if limit is None or limit >= len(items) else sample(items, limit, seed)


def check_classes(images: ImageSet, path: Path) -> None:
    """InputError when images to evaluate on have a class that the model does not know; none at all is fine."""
    unknown = sorted({i.class_name for i in images.items if i.class_name is not None and i.class_index is None})
    if unknown:
        raise InputError(
            f"{path}: the model has no class for {listed(unknown, 5)}; name the folders as its labels or 0, 1, 2, ..."
        )
