"""Publishing a build: everything is made in a hidden folder and takes its place at the end, under a lock.

A build that fails leaves what was there before. A build that is killed leaves the whole previous build or the whole new
one; if it is killed while it publishes, ``report.json`` is missing until the next build or reader has completed the
publication (see :mod:`levit_edge.bundle.journal`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from levit_edge.bundle import journal
from levit_edge.bundle.files import MANIFEST_NAME, clear_os_errors, fsync_path
from levit_edge.errors import InputError

LOCK_NAME = ".levit-edge.lock"
_STAGING = ".levit-tmp-"
_ASIDE = ".levit-old-"
_PUBLISHING_S = 10.0  # how long a reader waits for a build that publishes right now, which takes milliseconds

logger = logging.getLogger(__name__)


@contextmanager
def staged_outputs(out: Path, *, bundles: Iterable[str] = (), timeout_s: float = 0) -> Iterator[Path]:
    """A hidden folder inside ``out`` to build in; on success all of its entries replace their namesakes in ``out``.

    They are replaced all together or not at all; anything else in ``out`` is left alone. ``bundles`` names the folders
    that will come, so that a clash is found before the work and not after it. Holds the lock of ``out`` throughout.
    Raises InputError as :func:`lock_directory` and :func:`check_replaceable` do, and for the disk errors that a user
    can fix.
    """
    out = out.absolute()
    with lock_directory(out, timeout_s=timeout_s):
        _clear_up(out)
        for name in bundles:
            check_replaceable(out / name)
        token = secrets.token_hex(4)
        staging, aside = out / f".build{_STAGING}{token}", out / f".build{_ASIDE}{token}"
        staging.mkdir()
        try:
            yield staging
            _publish(out, staging, aside)
        finally:
            if not (out / journal.JOURNAL_NAME).exists():  # else its folders are still needed
                shutil.rmtree(aside, ignore_errors=True)
                shutil.rmtree(staging, ignore_errors=True)


def settle(out: Path) -> None:
    """Complete the publication that a killed build left in ``out``; call it before anything in ``out`` is read.

    Costs one look at the disk when there is none. Raises InputError when another build is publishing and does not end,
    or when ``out`` cannot be written.
    """
    if (out / journal.JOURNAL_NAME).exists():
        with lock_directory(out, timeout_s=_PUBLISHING_S):
            _clear_up(out)


@contextmanager
def lock_directory(out: Path, *, timeout_s: float = 0) -> Iterator[None]:
    """Hold ``out`` for this process; wait ``timeout_s`` for another one, then refuse with InputError naming its pid.

    Creates ``out`` when it is missing, and removes it again when nothing was put into it.
    """
    with clear_os_errors(out):
        created = _make_folder(out)
        lock_file = out / LOCK_NAME
        lock = FileLock(lock_file)
        try:
            lock.acquire(timeout=timeout_s)
        except Timeout:
            raise InputError(
                f"{out}: another build (process {_holder(lock_file)}) is writing here; wait for it"
            ) from None
        except FileNotFoundError:
            raise InputError(f"{out} was removed by the build that held it; run this one again") from None
        try:
            lock_file.write_text(f"{os.getpid()}\n")
            yield
        finally:
            try:
                lock_file.unlink(missing_ok=True)
            finally:
                lock.release()
            for folder in created:
                with contextlib.suppress(OSError):
                    folder.rmdir()


def check_replaceable(target: Path) -> None:
    """InputError unless a new bundle may take the place of ``target``: nothing there, a bundle, or an empty folder.

    A folder without ``manifest.json`` is somebody's data and is never replaced.
    """
    if target.is_symlink():
        raise InputError(f"{target} is a link; a build replaces folders only: remove it or choose another --out")
    if not target.exists() or (target.is_dir() and ((target / MANIFEST_NAME).is_file() or not any(target.iterdir()))):
        return
    kind = f"a folder without {MANIFEST_NAME}, so not a bundle" if target.is_dir() else "a file"
    raise InputError(f"{target} is {kind}; it is left alone: move it away or choose another --out")


def _publish(out: Path, staging: Path, aside: Path) -> None:
    for source in staging.iterdir():
        target = out / source.name
        if source.is_dir():
            check_replaceable(target)
        elif target.is_dir():
            raise InputError(f"{target} is a folder where the build writes a file; move it away")
    for path in staging.rglob("*"):
        fsync_path(path)
    fsync_path(staging)
    aside.mkdir()
    journal.carry_out(out, journal.plan(staging, aside))


def _clear_up(out: Path) -> None:
    """Finish or remove what killed builds left in ``out``, whose lock is held."""
    journal.finish(out)
    for leftover in sorted([*out.glob(f".*{_STAGING}*/"), *out.glob(f".*{_ASIDE}*/")]):
        logger.info("removing %s, left by a build that was killed", leftover)
        shutil.rmtree(leftover)


def _make_folder(folder: Path) -> list[Path]:
    """Create ``folder`` with its parents; the folders that were missing, innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError:
        raise InputError(f"{folder} cannot be created there; choose another folder") from None
    return missing


def _holder(lock_file: Path) -> str:
    try:
        return lock_file.read_text().strip() or "unknown"
    except OSError:
        return "unknown"
