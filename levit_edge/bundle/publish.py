"""Publishing a build: everything is made in a hidden folder and swapped in at the end, under a lock.

A build that fails leaves what was there before. A build that is killed leaves, for each entry, the previous one or the
new one, whole; what it left of its staging folder goes away when the next build into the same folder starts.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from levit_edge.bundle.atomic_swap import exchange
from levit_edge.bundle.files import clear_os_errors, fsync_path
from levit_edge.errors import InputError

LOCK_NAME = ".levit-edge.lock"
BUNDLE_MARKER = "manifest.json"
_STAGING = ".levit-tmp-"
_ASIDE = ".levit-old-"

logger = logging.getLogger(__name__)


@contextmanager
def staged_outputs(out: Path, *, bundles: Iterable[str] = (), timeout_s: float = 0) -> Iterator[Path]:
    """A hidden folder inside ``out`` to build in; on success each of its entries replaces its namesake in ``out``.

    Bundles (folders) are swapped in first, single files such as ``report.json`` last; anything else in ``out`` is left
    alone. ``bundles`` names the folders that will come, so that a clash is found before the work and not after it.
    Holds the lock of ``out`` throughout (see :func:`lock_directory`).
    """
    out = out.absolute()
    with _staging(out, "build", timeout_s, [out / name for name in bundles]) as staging:
        yield staging
        entries = sorted(staging.iterdir(), key=lambda entry: (entry.is_file(), entry.name))
        _publish([(entry, out / entry.name) for entry in entries])


@contextmanager
def staged_directory(target: Path, *, timeout_s: float = 0) -> Iterator[Path]:
    """A hidden folder beside ``target`` that takes its place on success. Holds the lock of the parent folder."""
    target = target.absolute()
    with _staging(target.parent, target.name, timeout_s, [target]) as staging:
        yield staging
        _publish([(staging, target)])


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
            lock_file.unlink(missing_ok=True)
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
    if not target.exists() or (target.is_dir() and ((target / BUNDLE_MARKER).is_file() or not any(target.iterdir()))):
        return
    kind = f"a folder without {BUNDLE_MARKER}, so not a bundle" if target.is_dir() else "a file"
    raise InputError(f"{target} is {kind}; it is left alone: move it away or choose another --out")


@contextmanager
def _staging(parent: Path, name: str, timeout_s: float, bundles: Sequence[Path]) -> Iterator[Path]:
    with lock_directory(parent, timeout_s=timeout_s):
        recover(parent)
        for bundle in bundles:
            check_replaceable(bundle)
        staging = parent / f".{name}{_STAGING}{secrets.token_hex(4)}"
        staging.mkdir()
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _publish(moves: Sequence[tuple[Path, Path]]) -> None:
    for source, target in moves:
        if source.is_dir():
            check_replaceable(target)
        elif target.is_dir():
            raise InputError(f"{target} is a folder where the build writes a file; move it away")
    for source, _ in moves:
        _flush(source)
    for source, target in moves:
        swap_in(source, target)
        fsync_path(target.parent)


def swap_in(source: Path, target: Path) -> None:
    """Put ``source`` in the place of ``target`` (same file system); a replaced folder's content is deleted after.

    One atomic step for files and wherever the kernel can exchange two names. Elsewhere the old folder steps aside
    first, and :func:`recover` puts it back if the process ends before the new one is in place.
    """
    if not (source.is_dir() and target.exists()):
        source.replace(target)
    elif exchange(source, target):
        shutil.rmtree(source)
    else:
        aside = target.with_name(f".{target.name}{_ASIDE}{secrets.token_hex(4)}")
        target.rename(aside)
        try:
            source.rename(target)
        except BaseException:
            aside.rename(target)
            raise
        shutil.rmtree(aside)


def recover(parent: Path) -> None:
    """Clear up after builds into ``parent`` that were killed. Call it only while holding the lock of ``parent``."""
    for aside in sorted(parent.glob(f".*{_ASIDE}*/")):
        target = parent / aside.name[1:].rpartition(_ASIDE)[0]
        if not target.exists():
            logger.warning("a build was killed while it replaced %s; the previous one is put back", target)
            aside.rename(target)
    for leftover in sorted([*parent.glob(f".*{_STAGING}*/"), *parent.glob(f".*{_ASIDE}*/")]):
        logger.info("removing %s, left by a build that was killed", leftover)
        shutil.rmtree(leftover)


def _flush(path: Path) -> None:
    for entry in path.rglob("*") if path.is_dir() else ():
        fsync_path(entry)
    fsync_path(path)


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
