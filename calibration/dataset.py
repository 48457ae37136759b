"""A set of images, with or without classes, in a folder or an archive: list them and read them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from calibration.classes import class_indices
from calibration.decoding import BadImageError
from calibration.file_stores import READ_ERRORS, Store, open_store
from calibration.layout import read_layout
from levit_edge.errors import InputError
from levit_edge.wording import listed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageItem:
    """One image.

    ``name`` is its path inside the data set, ``class_name`` the class that the data set gives it, and ``class_index``
    the model's index of that class.
    """

    name: str
    class_name: str | None = None
    class_index: int | None = None


class ImageSet:
    """The images of a data set, sorted by name. A context manager that closes the archive.

    ``read`` may be called from several threads at once.
    """

    def __init__(self, path: Path, store: Store, root: str, items: Iterable[ImageItem]) -> None:
        self.path = path
        self._store = store
        self._root = root
        self.items = tuple(items)

    @property
    def labelled(self) -> bool:
        """True when every image has a class index."""
        return all(item.class_index is not None for item in self.items)

    def read(self, item: ImageItem) -> bytes:
        """The bytes of one image file; raises BadImageError, which names the image, when they cannot be read."""
        try:
            return self._store.read(self._root + item.name)
        except READ_ERRORS as error:
            raise BadImageError(item.name, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error

    def close(self) -> None:
        """Close the archive."""
        self._store.close()

    def __enter__(self) -> ImageSet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_dataset(
    path: str | Path, labels: Sequence[str] = (), *, require_labels: bool = False, subfolder: str = ""
) -> ImageSet:
    """Open a data set: a folder, ``.zip``, ``.tar``, ``.tar.gz`` or ``.tgz``.

    It holds one folder per class; or images and a ``labels.tsv`` (lines ``filename<TAB>class``); or images alone, which
    then have no class. Any number of folders may be wrapped around that.

    ``labels`` are the model's class names in the order of their indices, and
    :func:`calibration.classes.class_indices` says how classes are matched to them. Images of a class without an index
    have ``class_index`` None; with ``require_labels`` such a class is an error. ``subfolder`` restricts the set to one
    folder of the data set. Every problem raises an InputError of one line that starts with the path.
    """
    store = open_store(Path(path))
    try:
        return _image_set(Path(path), store, labels, require_labels, subfolder)
    except InputError as error:
        store.close()
        raise InputError(f"{path}: {error}") from error


def _image_set(path: Path, store: Store, labels: Sequence[str], require_labels: bool, subfolder: str) -> ImageSet:
    where = subfolder.strip("/") + "/" if subfolder.strip("/") else ""
    layout = read_layout(store, where, labels)
    names = {name for name in layout.classes.values() if name is not None}
    indices = class_indices(names, labels) if names and labels else {}
    _check_classes(names, indices, labels, require_labels)
    found = sorted(layout.classes.items())
    items = (ImageItem(name, kind, None if kind is None else indices.get(kind)) for name, kind in found)
    return ImageSet(path, store, layout.root, items)


def _check_classes(names: set[str], indices: dict[str, int], labels: Sequence[str], required: bool) -> None:
    unknown = sorted(names - indices.keys())
    if required and not names:
        raise InputError("the images have no classes; put each class into its own folder, or add labels.tsv")
    if not unknown:
        return
    text = (
        f"{len(unknown)} of {len(names)} classes do not match exactly one of the model's {len(labels)} labels: "
        f"{listed(unknown, quoted=True)}; valid: {listed(labels, quoted=True)}, or the class index"
    )
    if required:
        raise InputError(text)
    if labels:
        logger.info("%s", text)
