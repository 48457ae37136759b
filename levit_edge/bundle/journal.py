"""The journal of a publication, which makes many renames one step even when the process is killed between them.

All new entries lie complete and flushed in a staging folder before the journal is written. It lists them, and then

1. the old report files move aside, ``report.json`` first, so that no report describes what lies there meanwhile;
2. each new bundle takes the place of the old one, which moves aside;
3. the new report files move in, ``report.json`` last, and the journal is deleted: from now on the new build counts.

A failure or a signal on the way undoes the steps. A kill, or a failure while undoing, leaves the journal behind; the
next build or the next reader then completes the steps, or undoes them if part of the new build is lost. Both directions
look where each entry lies instead of counting steps, so they may start in any state and be cut short in any state. An
entry is recognised by its content, a bundle by its manifest, which holds the hash of every other file: after two
folders were exchanged, their names alone do not tell old from new.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from levit_edge.bundle.atomic_swap import exchange
from levit_edge.bundle.files import MANIFEST_NAME, fsync_path, json_text, sha256_file, sha256_path, write_text
from levit_edge.errors import InputError
from levit_edge.record import Record
from levit_edge.wording import validation_reason

JOURNAL_NAME = ".levit-edge.journal"

logger = logging.getLogger(__name__)

PlainName = Annotated[str, Field(pattern=r"^[^/\\]*[^/\\.][^/\\]*$")]


class Entry(Record):
    """One file or folder to publish; ``sha256`` is that of the new one (see :func:`identity`)."""

    name: PlainName
    sha256: str
    folder: bool


class Journal(Record):
    """A publication into ``out``: from the folder ``staging`` below it, with the old entries moved to ``aside``.

    Folders come first and ``report.json`` comes last.
    """

    staging: PlainName
    aside: PlainName
    entries: tuple[Entry, ...]


def plan(staging: Path, aside: Path) -> Journal:
    """The publication of everything in ``staging``; ``aside`` is an empty folder beside it."""
    paths = sorted(staging.iterdir(), key=lambda path: (path.is_file(), path.name == "report.json", path.name))
    entries = tuple(Entry(name=path.name, sha256=identity(path), folder=path.is_dir()) for path in paths)
    return Journal(staging=staging.name, aside=aside.name, entries=entries)


def identity(path: Path) -> str:
    """What tells an entry from another: SHA-256 of a file, of a bundle's manifest, or of any other folder."""
    manifest = path / MANIFEST_NAME
    return sha256_file(manifest) if manifest.is_file() else sha256_path(path)


def carry_out(out: Path, journal: Journal) -> None:
    """Write ``journal`` into ``out`` and complete it; on any failure or signal, undo it.

    Everything in the staging folder must be flushed to the disk.
    """
    try:
        draft = out / journal.aside / JOURNAL_NAME
        write_text(draft, json_text(journal.model_dump(mode="json")))
        draft.rename(out / JOURNAL_NAME)
        fsync_path(out)
        _complete(out, journal)
    except BaseException:
        if (out / JOURNAL_NAME).exists():
            _undo(out, journal)
        raise


def finish(out: Path) -> None:
    """Complete the publication that a build left unfinished in ``out``, if any. Call it only with the lock of ``out``.

    Raises InputError when the journal cannot be read.
    """
    path = out / JOURNAL_NAME
    if not path.exists():
        return
    try:
        journal = Journal.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(f"{path} {validation_reason(error)}; delete it and build again into this folder") from None
    if all(_is_new(entry, out) or _is_new(entry, out / journal.staging) for entry in journal.entries):
        logger.warning("an earlier build did not finish publishing into %s; it is completed now", out)
        _complete(out, journal)
    else:
        logger.warning("an earlier build did not finish publishing into %s; the one before it is put back", out)
        _undo(out, journal)


def _complete(out: Path, journal: Journal) -> None:
    """Put every new entry in its place, from whatever state, and delete the journal."""
    (out / journal.aside).mkdir(exist_ok=True)
    for entry in reversed(journal.entries):
        if not entry.folder:
            _move_aside(entry, out, journal)
    for entry in journal.entries:
        staging = out / journal.staging
        if entry.folder and _there(entry, out) and not _is_new(entry, out):
            exchange(staging / entry.name, out / entry.name)  # the usual way; False where the system cannot
        _move_aside(entry, out, journal)
        if not _is_new(entry, out):
            _move(entry, staging, out)
    _delete(out / JOURNAL_NAME)


def _undo(out: Path, journal: Journal) -> None:
    """Put every old entry back, from whatever state, and delete the journal."""
    staging, aside = out / journal.staging, out / journal.aside
    staging.mkdir(exist_ok=True)
    aside.mkdir(exist_ok=True)
    for entry in reversed(journal.entries):
        if _is_new(entry, out):
            _move_aside(entry, out, journal)  # it may still lie in the staging folder, after an exchange
            _move(entry, out, staging)
    for entry in journal.entries:
        if _there(entry, aside):
            _move(entry, aside, out)
    _delete(out / JOURNAL_NAME)


def _move_aside(entry: Entry, out: Path, journal: Journal) -> None:
    """Move the old ``entry`` aside, if there is one: from its place, or from the staging folder after an exchange."""
    staging, aside = out / journal.staging, out / journal.aside
    if _there(entry, aside):
        return
    if _is_new(entry, out):
        if _there(entry, staging):
            _move(entry, staging, aside)
    elif _there(entry, out):
        _move(entry, out, aside)


def _is_new(entry: Entry, folder: Path) -> bool:
    """True when the new ``entry`` lies in ``folder``, or an old one that is no different."""
    return _there(entry, folder) and identity(folder / entry.name) == entry.sha256


def _there(entry: Entry, folder: Path) -> bool:
    return os.path.lexists(folder / entry.name)


def _move(entry: Entry, source: Path, target: Path) -> None:
    (source / entry.name).rename(target / entry.name)
    fsync_path(source)
    fsync_path(target)


def _delete(path: Path) -> None:
    path.unlink()
    fsync_path(path.parent)
