"""Find the images of a data set and the class of each: from folders, from ``labels.tsv``, or none."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

from calibration.classes import class_indices
from calibration.file_names import IMAGE_SUFFIXES, LABELS_FILE, is_ignored, is_image, is_note
from calibration.file_stores import READ_ERRORS, Store
from levit_edge.errors import InputError
from levit_edge.wording import listed, printable

_HEADER = ("filename", "class")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """``root`` is the folder that holds the data, empty or ending in ``/``; ``classes`` maps each image to its class.

    The names of the images are relative to ``root``, so that an image has the same name whether the data lies in a
    folder, in an archive, or in an archive that wraps it in more folders.
    """

    root: str
    classes: dict[str, str | None]


def read_layout(store: Store, where: str, labels: Sequence[str]) -> Layout:
    """Find the images below ``where`` (empty or ending in ``/``) and the class of each; raises InputError.

    If there is a ``labels.tsv``, it gives the classes. Otherwise the innermost folder that contains every image is the
    root, and each folder in it is a class. Images that all lie in one folder have no class, unless ``labels`` contain
    the name of that folder.
    """
    images, label_files = _sort_files([name for name in store.names if name.startswith(where)])
    if not images:
        raise InputError(f"no images; image files end in {', '.join(IMAGE_SUFFIXES)}")
    if len(label_files) > 1:
        raise InputError(f"more than one {LABELS_FILE}: {listed(label_files, quoted=True)}")
    if label_files:
        return _listed_classes(store, images, label_files[0])
    return _folder_classes(images, labels)


def _sort_files(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The images and the label files. Notes are left out with a log line; any other file raises InputError."""
    kept = [name for name in names if not is_ignored(name)]
    images = [name for name in kept if is_image(name)]
    label_files = [name for name in kept if posixpath.basename(name) == LABELS_FILE]
    others = [name for name in kept if not is_image(name) and posixpath.basename(name) != LABELS_FILE]
    strange = [name for name in others if not is_note(name)]
    if strange:
        raise InputError(
            f"not an image file: {listed(strange, quoted=True)}; image files end in {', '.join(IMAGE_SUFFIXES)}"
        )
    if others:
        logger.info("not images, left out: %s", listed(others, quoted=True))
    return images, label_files


def _folder_classes(images: Sequence[str], labels: Sequence[str]) -> Layout:
    folders = {posixpath.dirname(name) for name in images}
    if len(folders) == 1:
        return _one_folder(images, folders.pop(), labels)
    common = posixpath.commonpath(["/" + folder for folder in folders]).lstrip("/")
    root = common + "/" if common else ""
    loose = [name for name in images if posixpath.dirname(name) == common]
    if loose:
        raise InputError(
            f"images lie beside class folders: {listed(loose, quoted=True)}; move each into its class folder"
        )
    relative = [name[len(root) :] for name in images]
    return Layout(root, {name: name.split("/", 1)[0] for name in relative})


def _one_folder(images: Sequence[str], folder: str, labels: Sequence[str]) -> Layout:
    name = posixpath.basename(folder)
    is_class = bool(name and class_indices([name], labels))
    root = folder[: len(folder) - len(name)] if is_class else (folder + "/" if folder else "")
    return Layout(root, {image[len(root) :]: name if is_class else None for image in images})


def _listed_classes(store: Store, images: Sequence[str], label_file: str) -> Layout:
    root = label_file[: -len(LABELS_FILE)]
    outside = [name for name in images if not name.startswith(root)]
    if outside:
        raise InputError(f"images outside the folder of {LABELS_FILE}: {listed(outside, quoted=True)}")
    classes = _parse_labels(_label_text(store, label_file))
    relative = {name[len(root) :] for name in images}
    if absent := [name for name in classes if name not in relative]:
        raise InputError(f"{LABELS_FILE} names files that are not there: {listed(absent, quoted=True)}")
    if unnamed := sorted(relative - classes.keys()):
        raise InputError(f"{LABELS_FILE} gives no class for: {listed(unnamed, quoted=True)}")
    return Layout(root, dict(classes))


def _label_text(store: Store, label_file: str) -> str:
    try:
        return store.read(label_file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{label_file}: not UTF-8 text at byte {error.start}") from error
    except READ_ERRORS as error:
        raise InputError(f"{label_file}: cannot be read: {error}") from error


def _parse_labels(text: str) -> dict[str, str]:
    """Image to class, from lines ``filename<TAB>class``. Blank lines and a header in the first line are ignored."""
    classes: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        fields = [field.strip() for field in line.split("\t")]
        if not line.strip() or (number == 1 and tuple(field.lower() for field in fields) == _HEADER):
            continue
        if len(fields) != 2 or not all(fields):
            raise InputError(f"{LABELS_FILE} line {number}: expected filename, one tab, class")
        name, class_name = fields
        if name in classes:
            raise InputError(f"{LABELS_FILE} line {number}: '{printable(name)}' is listed twice")
        classes[name] = class_name
    return classes
