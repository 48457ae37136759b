"""Names of files inside a data set: what counts as an image, what is ignored, how a name is shown in one line."""

from __future__ import annotations

import re
from collections.abc import Iterable

from levit_edge.errors import InputError

LABELS_FILE = "labels.tsv"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

# Files that usually lie beside images and are left alone.
_NOTE_SUFFIXES = (".txt", ".md", ".tsv", ".csv", ".json", ".xml", ".html", ".yaml", ".yml", ".toml")
_NOTE_NAMES = ("readme", "license", "licence", "citation", "notice", "copying")
_SYSTEM_NAMES = ("thumbs.db", "ehthumbs.db", "desktop.ini")
_DRIVE = re.compile(r"[A-Za-z]:")


def printable(name: str) -> str:
    """``name`` as it is, or with escapes where it would break a one-line message."""
    return name if name.isprintable() else ascii(name)[1:-1]


def listed(names: Iterable[str], limit: int = 3) -> str:
    """The first ``limit`` names, quoted, and how many more there are."""
    every = list(names)
    shown = ", ".join(f"'{printable(name)}'" for name in every[:limit])
    return shown if len(every) <= limit else f"{shown} and {len(every) - limit} more"


def archive_name(raw: str, archive: str) -> str:
    """The entry name with ``/`` separators and without ``.`` parts; refuses a name that leaves the archive."""
    parts = [part for part in raw.replace("\\", "/").split("/") if part not in ("", ".")]
    if raw.startswith(("/", "\\")) or ".." in parts or _DRIVE.match(raw):
        raise InputError(f"{archive}: entry '{printable(raw)}' points outside the archive")
    return "/".join(parts)


def is_ignored(name: str) -> bool:
    """Hidden files and folders, and what macOS and Windows add on their own."""
    parts = name.split("/")
    return any(part.startswith(".") or part == "__MACOSX" for part in parts) or parts[-1].lower() in _SYSTEM_NAMES


def is_image(name: str) -> bool:
    """True for the suffixes in IMAGE_SUFFIXES, in any letter case."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_note(name: str) -> bool:
    """Text that documents a data set: README, LICENSE, annotations."""
    last = name.rsplit("/", 1)[-1].lower()
    return last.endswith(_NOTE_SUFFIXES) or last in _NOTE_NAMES
