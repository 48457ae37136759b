"""File names inside a data set: which are images, and which are ignored."""

from __future__ import annotations

import re

from levit_edge.errors import InputError
from levit_edge.wording import printable

LABELS_FILE = "labels.tsv"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

# Files that often lie beside images. They are not images, and they are no reason to refuse the data set.
_NOTE_SUFFIXES = (".txt", ".md", ".tsv", ".csv", ".json", ".xml", ".html", ".yaml", ".yml", ".toml")
_NOTE_NAMES = ("readme", "license", "licence", "citation", "notice", "copying")
_SYSTEM_NAMES = ("thumbs.db", "ehthumbs.db", "desktop.ini")
_DRIVE = re.compile(r"[A-Za-z]:")


def archive_name(raw: str, archive: str) -> str:
    """The name of an archive's entry, with ``/`` between its parts and without ``.`` parts.

    Raises InputError, which starts with ``archive``, for a name that points outside the archive.
    """
    parts = [part for part in raw.replace("\\", "/").split("/") if part not in ("", ".")]
    if raw.startswith(("/", "\\")) or ".." in parts or _DRIVE.match(raw):
        raise InputError(f"{archive}: entry '{printable(raw)}' points outside the archive")
    return "/".join(parts)


def is_ignored(name: str) -> bool:
    """True for hidden files and folders, and for those that macOS and Windows create by themselves."""
    parts = name.split("/")
    return any(part.startswith(".") or part == "__MACOSX" for part in parts) or parts[-1].lower() in _SYSTEM_NAMES


def is_image(name: str) -> bool:
    """True for a name with one of IMAGE_SUFFIXES, in upper or lower case."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_note(name: str) -> bool:
    """True for text that accompanies a data set: README, LICENSE, annotations."""
    last = name.rsplit("/", 1)[-1].lower()
    return last.endswith(_NOTE_SUFFIXES) or last in _NOTE_NAMES
