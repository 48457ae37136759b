"""How the files of a data set tell their classes: by folder, by ``labels.tsv``, or not at all."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

from calibration.classes import class_indices
from calibration.names import IMAGE_SUFFIXES, LABELS_FILE, is_ignored, is_image, is_note, listed, printable
from calibration.stores import READ_ERRORS, Store
from levit_edge.errors import InputError

_HEADER = ("filename", "class")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """``root`` is the folder that wraps the data (empty or ending in ``/``); ``classes`` maps image to class name.

    The keys of ``classes`` are relative to ``root``, so the same data has the same names in a folder and in an archive
    that wraps it.
    """

    root: str
    classes: dict[str, str | None]


def read_layout(store: Store, where: str, labels: Sequence[str]) -> Layout:
    """Find the images below ``where`` (empty or ending in ``/``) and the class of each.

    A ``labels.tsv`` decides when there is one. Otherwise the folders below the innermost folder that holds everything
    are the classes. Images that all lie in one folder are unlabelled, unless that folder bears a class's name.
    """
    images, label_files = _sort_files([name for name in store.names if name.startswith(where)])
    if not images:
        raise InputError(f"no images; image files end in {', '.join(IMAGE_SUFFIXES)}")
    if len(label_files) > 1:
        raise InputError(f"more than one {LABELS_FILE}: {listed(label_files)}")
    if label_files:
        return _listed_classes(store, images, label_files[0])
    return _folder_classes(images, labels)


def _sort_files(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Images and label files; notes are left out with a log line, anything else is refused."""
    kept = [name for name in names if not is_ignored(name)]
    images = [name for name in kept if is_image(name)]
    label_files = [name for name in kept if posixpath.basename(name) == LABELS_FILE]
    others = [name for name in kept if not is_image(name) and posixpath.basename(name) != LABELS_FILE]
    strange = [name for name in others if not is_note(name)]
    if strange:
        raise InputError(f"not an image file: {listed(strange)}; image files end in {', '.join(IMAGE_SUFFIXES)}")
    if others:
        logger.info("left out beside the images: %s", listed(others))
    return images, label_files


def _folder_classes(images: Sequence[str], labels: Sequence[str]) -> Layout:
    folders = {posixpath.dirname(name) for name in images}
    if len(folders) == 1:
        return _one_folder(images, folders.pop(), labels)
    common = posixpath.commonpath(["/" + folder for folder in folders]).lstrip("/")
    root = common + "/" if common else ""
    loose = [name for name in images if posixpath.dirname(name) == common]
    if loose:
        raise InputError(f"images lie beside class folders: {listed(loose)}; move each into its class folder")
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
        raise InputError(f"images outside the folder of {LABELS_FILE}: {listed(outside)}")
    classes = _parse_labels(_label_text(store, label_file))
    relative = {name[len(root) :] for name in images}
    if absent := [name for name in classes if name not in relative]:
        raise InputError(f"{LABELS_FILE} names files that are not there: {listed(absent)}")
    if unnamed := sorted(relative - classes.keys()):
        raise InputError(f"{LABELS_FILE} gives no class for: {listed(unnamed)}")
    return Layout(root, dict(classes))


def _label_text(store: Store, label_file: str) -> str:
    try:
        return store.read(label_file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{label_file}: not UTF-8 text at byte {error.start}") from error
    except READ_ERRORS as error:
        raise InputError(f"{label_file}: cannot be read: {error}") from error


def _parse_labels(text: str) -> dict[str, str]:
    """Lines ``filename<TAB>class``; blank lines and one leading ``filename<TAB>class`` header are passed over."""
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
