"""The images of a build: which calibrate, which evaluate, and how they come as batches."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from calibration import Batch, ImageItem, ImageSet, Loader, load, open_dataset, remainder, sample
from calibration import calibration_hash as hash_items
from levit_edge.bundle.manifest import CalibrationInfo
from levit_edge.demo import CALIBRATION_FOLDER, EVALUATION_FOLDER, demo_archive
from levit_edge.errors import InputError
from levit_edge.families.preprocessing import Preprocessing
from levit_edge.pipeline.load import Subject
from levit_edge.pipeline.options import BuildOptions
from levit_edge.progress import Progress

log = logging.getLogger(__name__)

BATCH = 8
HELD_OUT_LIMIT = 1000  # of the images that calibration left over; a data set given for evaluation is used whole
NUMERICS = 16  # images on which a bundle is compared with the program it was lowered from


@dataclass
class Selection:
    """Some images of one data set. ``skipped`` are those that could not be read, once they have been loaded."""

    source: str
    images: ImageSet
    items: tuple[ImageItem, ...]
    preprocessing: Preprocessing
    skip_bad: bool
    skipped: list[str] = field(default_factory=list)

    def batches(self, progress: Progress, label: str) -> Iterator[Batch]:
        """Every image in order, in batches of at most BATCH."""
        loader: Loader = load(
            self.images, self.items, self.preprocessing, batch_size=BATCH, workers=2, skip_bad_images=self.skip_bad
        )
        skipped: list[str] = []
        for batch in progress.track(loader, label, -(-len(self.items) // BATCH)):
            skipped += [name for name, _ in batch.skipped]
            yield batch
        self.skipped = skipped
        if self.skipped:
            log.warning("%s: %d images could not be read and were left out", self.source, len(self.skipped))

    def spread(self, count: int) -> Batch:
        """``count`` images at equal distances, all of them if fewer, without those that could not be read."""
        readable = [item for item in self.items if item.name not in self.skipped]
        chosen = (
            [readable[index * len(readable) // count] for index in range(count)] if count < len(readable) else readable
        )
        return join(
            load(self.images, chosen, self.preprocessing, batch_size=BATCH, workers=2, skip_bad_images=self.skip_bad)
        )


@dataclass(frozen=True)
class Images:
    """``calibration`` is None when the recipe needs none and none was given; ``evaluation`` when no image is left."""

    calibration: Selection | None
    evaluation: Selection | None
    seed: int

    def calibration_info(self) -> CalibrationInfo | None:
        """What was sampled, without the images that could not be read."""
        if self.calibration is None:
            return None
        bad = set(self.calibration.skipped)
        kept = tuple(item for item in self.calibration.items if item.name not in bad)
        sha256 = hash_items(self.calibration.images, kept, self.calibration.preprocessing, self.seed)
        return CalibrationInfo(source=self.calibration.source, sha256=sha256, seed=self.seed, samples=len(kept))

    def first(self, count: int, subject: Subject) -> Batch:
        """``count`` images to compare numbers on: of the evaluation, else of the calibration, else noise."""
        selection = self.evaluation or self.calibration
        if selection is None:
            return noise(count, subject)
        batches: list[Batch] = []
        for batch in load(
            selection.images, selection.items, selection.preprocessing, batch_size=1, skip_bad_images=selection.skip_bad
        ):
            batches.append(batch)
            if len(batches) == count:
                break
        if not batches:
            raise InputError(f"{selection.source}: no image could be read")
        return join(batches)


def join(batches: Iterable[Batch]) -> Batch:
    """One batch of all of them; ValueError when there is none."""
    parts = list(batches)
    return Batch(
        inputs=np.concatenate([batch.inputs for batch in parts]),
        pixels=np.concatenate([batch.pixels for batch in parts]),
        class_index=np.concatenate([batch.class_index for batch in parts]),
        names=tuple(name for batch in parts for name in batch.names),
    )


def noise(count: int, subject: Subject) -> Batch:
    """Images of uniform noise, the same every time."""
    from calibration import UNKNOWN_CLASS, normalize

    config = subject.config
    shape = (count, config.image_size, config.image_size, config.num_channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    inputs = normalize(pixels, subject.preprocessing)
    names = tuple(f"noise-{index}" for index in range(count))
    return Batch(inputs=inputs, pixels=pixels, class_index=np.full(count, UNKNOWN_CLASS), names=names)


def open_images(options: BuildOptions, subject: Subject, needed: bool, stack: ExitStack) -> Images:
    """Open the data sets of ``options`` (kept open by ``stack``) and choose from them.

    ``needed``: the recipe calibrates. Raises InputError when it has nothing to calibrate with.
    """
    if options.model is None and options.calibration is None:
        return _demo(options, subject, stack)
    calibration = evaluation = None
    if options.calibration is not None:
        images = stack.enter_context(open_dataset(options.calibration, subject.labels))
        if options.samples > len(images.items):
            raise InputError(
                f"{options.calibration} has {len(images.items)} images and {options.samples} are to be sampled; "
                f"give --samples {len(images.items)} or fewer"
            )
        chosen = sample(images.items, options.samples, options.seed)
        calibration = _selection(options, subject, options.calibration.name, images, chosen)
        rest = remainder(images.items, chosen)
        if rest and options.eval_data is None:
            rest = sample(rest, min(len(rest), options.limit or HELD_OUT_LIMIT), options.seed)
            evaluation = _selection(options, subject, f"{options.calibration.name} (not sampled)", images, rest)
    elif needed:
        raise InputError(f"recipe {options.recipe} calibrates on images; name some with --calibration DATA")
    if options.eval_data is not None:
        evaluation = _given(options, subject, options.eval_data, stack)
    return Images(calibration, evaluation, options.seed)


def _demo(options: BuildOptions, subject: Subject, stack: ExitStack) -> Images:
    archive = demo_archive()
    images = stack.enter_context(open_dataset(archive, subject.labels, subfolder=CALIBRATION_FOLDER))
    chosen = sample(images.items, options.samples, options.seed)
    calibration = _selection(options, subject, f"{archive.name}/{CALIBRATION_FOLDER}", images, chosen)
    if options.eval_data is not None:
        return Images(calibration, _given(options, subject, options.eval_data, stack), options.seed)
    held_out = stack.enter_context(
        open_dataset(archive, subject.labels, require_labels=True, subfolder=EVALUATION_FOLDER)
    )
    evaluation = _limited(options, subject, f"{archive.name}/{EVALUATION_FOLDER}", held_out)
    return Images(calibration, evaluation, options.seed)


def _given(options: BuildOptions, subject: Subject, path: Path, stack: ExitStack) -> Selection:
    images = stack.enter_context(open_dataset(path, subject.labels))
    check_classes(images, path)
    return _limited(options, subject, path.name, images)


def check_classes(images: ImageSet, path: Path) -> None:
    """InputError when images to evaluate on have a class that the model does not know; none at all is fine."""
    unknown = sorted({i.class_name for i in images.items if i.class_name is not None and i.class_index is None})
    if unknown:
        shown = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        raise InputError(f"{path}: the model has no class for {shown}; name the folders as its labels or 0, 1, 2, ...")


def _limited(options: BuildOptions, subject: Subject, source: str, images: ImageSet) -> Selection:
    items = images.items
    if options.limit is not None and options.limit < len(items):
        items = sample(items, options.limit, options.seed)
    return _selection(options, subject, source, images, items)


def _selection(
    options: BuildOptions, subject: Subject, source: str, images: ImageSet, items: tuple[ImageItem, ...]
) -> Selection:
    return Selection(source, images, items, subject.preprocessing, options.skip_bad_images)
