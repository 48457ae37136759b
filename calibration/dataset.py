"""A set of images, labelled or not, from a folder or an archive: list them, read them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from calibration.classes import class_indices
from calibration.decoding import BadImageError
from calibration.layout import read_layout
from calibration.names import listed
from calibration.stores import READ_ERRORS, Store, open_store
from levit_edge.errors import InputError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageItem:
    """One image: its path inside the data set, its class as the data set names it, and the model's index for it."""

    name: str
    class_name: str | None = None
    class_index: int | None = None


class ImageSet:
    """Images in sorted order of their names. A context manager; ``read`` may be called from several threads."""

    def __init__(self, store: Store, root: str, items: Iterable[ImageItem]) -> None:
        self._store = store
        self._root = root
        self.items = tuple(items)

    @property
    def labelled(self) -> bool:
        """True when every image has a class index of the model."""
        return all(item.class_index is not None for item in self.items)

    def read(self, item: ImageItem) -> bytes:
        """The file of one image; raises BadImageError with its name when the bytes cannot be had."""
        try:
            return self._store.read(self._root + item.name)
        except READ_ERRORS as error:
            raise BadImageError(item.name, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error

    def close(self) -> None:
        """Give back open files."""
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

    Inside, in any number of wrapping folders: one folder per class; or images and a ``labels.tsv``
    (``filename<TAB>class``); or images alone, which are unlabelled. ``labels`` are the model's class names in index
    order; :func:`calibration.classes.class_indices` says how classes are matched to them. With ``require_labels`` a
    class without an index is an error, otherwise its images have ``class_index`` None. ``subfolder`` restricts the
    set to one folder inside. Every problem is an InputError of one line that starts with the path.
    """
    store = open_store(Path(path))
    try:
        return _image_set(store, labels, require_labels, subfolder)
    except InputError as error:
        store.close()
        raise InputError(f"{path}: {error}") from error


def _image_set(store: Store, labels: Sequence[str], require_labels: bool, subfolder: str) -> ImageSet:
    where = subfolder.strip("/") + "/" if subfolder.strip("/") else ""
    layout = read_layout(store, where, labels)
    names = {name for name in layout.classes.values() if name is not None}
    indices = class_indices(names, labels) if names and labels else {}
    _check_classes(names, indices, labels, require_labels)
    found = sorted(layout.classes.items())
    items = (ImageItem(name, kind, None if kind is None else indices.get(kind)) for name, kind in found)
    return ImageSet(store, layout.root, items)


def _check_classes(names: set[str], indices: dict[str, int], labels: Sequence[str], required: bool) -> None:
    unknown = sorted(names - indices.keys())
    if required and not names:
        raise InputError("the images have no classes; put each class in its own folder or add labels.tsv")
    if not unknown:
        return
    text = (
        f"{len(unknown)} of {len(names)} classes do not match exactly one of the model's {len(labels)} labels: "
        f"{listed(unknown)}; valid: {listed(labels)}, or the class index"
    )
    if required:
        raise InputError(text)
    if labels:
        logger.info("%s", text)
