"""Read single files from a folder, a zip file or a tar file, without unpacking the archive to disk."""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from calibration.file_names import archive_name
from levit_edge.errors import InputError
from levit_edge.wording import printable

# Limits against archives that are made to exhaust memory or disk. ImageNet's validation images stay far below them.
MAX_ENTRIES = 2_000_000
MAX_ENTRY_BYTES = 256 * 2**20
MAX_TOTAL_BYTES = 64 * 2**30
MAX_EXPANSION = 200  # unpacked bytes per packed byte; not checked below EXPANSION_FLOOR_BYTES
EXPANSION_FLOOR_BYTES = 16 * 2**20

READ_ERRORS = (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, tarfile.TarError, zlib.error)
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_TAR_BLOCK_BYTES = 512
_CHUNK_BYTES = 2**20


class Store(Protocol):
    """Files with names. ``read`` may be called from several threads at once, and raises one of READ_ERRORS."""

    names: tuple[str, ...]

    def read(self, name: str) -> bytes:
        """All bytes of one of ``names``."""

    def close(self) -> None:
        """Close what is open."""


def open_store(path: Path) -> Store:
    """Open a folder, ``.zip``, ``.tar``, ``.tar.gz`` or ``.tgz``; raises InputError for anything else."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_dir():
        return FolderStore(path)
    name = path.name.lower()
    if name.endswith(".zip"):
        return ZipStore(path)
    if name.endswith(_TAR_SUFFIXES):
        return TarStore(path)
    raise InputError(f"{path}: not a data set; valid: a folder, .zip, {', '.join(_TAR_SUFFIXES)}")


class FolderStore:
    """The files in a folder and its subfolders. Links are followed; a folder that is reached twice is refused."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.names = tuple(sorted(_walk(path)))
        except OSError as error:
            raise InputError(f"{path}: cannot be listed: {error.strerror or error}") from error

    def read(self, name: str) -> bytes:
        """All bytes of one file. A pipe or a device is refused, because reading it might never end."""
        file = self._path / name
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not an ordinary file")
        if status.st_size > MAX_ENTRY_BYTES:
            raise ValueError(f"{status.st_size} bytes; the limit is {MAX_ENTRY_BYTES}")
        return file.read_bytes()

    def close(self) -> None:
        """Does nothing: no file stays open."""


class ZipStore:
    """The entries of a zip file."""

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, ValueError) as error:
            raise InputError(f"{path}: cannot be read as zip: {error}") from error
        self._lock = threading.Lock()
        try:
            self._entries = _zip_entries(self._zip, path)
        except InputError:
            self.close()
            raise
        self.names = tuple(sorted(self._entries))

    def read(self, name: str) -> bytes:
        """All bytes of one entry; its checksum is verified."""
        with self._lock:
            return self._zip.read(self._entries[name])

    def close(self) -> None:
        """Close the archive."""
        self._zip.close()


class TarStore:
    """The members of a tar file. One compressed with gzip is first expanded into a temporary file without a name."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = _plain_tar(path)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: cannot be read as tar: {error}") from error
        self._lock = threading.Lock()
        try:
            self._spans = _tar_spans(self._file, path)
        except InputError:
            self.close()
            raise
        self.names = tuple(sorted(self._spans))

    def read(self, name: str) -> bytes:
        """All bytes of one member."""
        offset, size = self._spans[name]
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size)

    def close(self) -> None:
        """Close the archive; that also deletes the temporary file."""
        self._file.close()


def _walk(root: Path) -> Iterator[str]:
    """The paths of all files below ``root``, relative to it, with ``/`` between their parts."""
    seen: set[str] = set()
    count = 0
    for folder, _, files in os.walk(root, followlinks=True, onerror=_raise):
        real = os.path.realpath(folder)
        if real in seen:
            raise InputError(f"{root}: folder '{printable(folder)}' is reached more than once through links")
        seen.add(real)
        count += len(files)
        if count > MAX_ENTRIES:
            raise InputError(f"{root}: more than {MAX_ENTRIES} files")
        for file in files:
            yield (Path(folder) / file).relative_to(root).as_posix()


def _raise(error: OSError) -> None:
    raise error


class _Budget:
    """Adds up the sizes that an archive declares; raises InputError at the first limit that they exceed."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._entries = 0
        self._bytes = 0

    def add(self, name: str, size: int) -> None:
        self._entries += 1
        self._bytes += size
        if size > MAX_ENTRY_BYTES:
            raise InputError(f"{self._archive}: entry '{printable(name)}' has {size} bytes; limit {MAX_ENTRY_BYTES}")
        if self._entries > MAX_ENTRIES:
            raise InputError(f"{self._archive}: more than {MAX_ENTRIES} entries")
        if self._bytes > MAX_TOTAL_BYTES:
            raise InputError(f"{self._archive}: declares more than {MAX_TOTAL_BYTES} bytes in total")


def _expands_too_far(size: int, packed: int) -> bool:
    return size > EXPANSION_FLOOR_BYTES and size > MAX_EXPANSION * max(packed, 1)


def _zip_entries(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    budget = _Budget(path)
    for info in archive.infolist():
        name = archive_name(info.filename, str(path))
        if info.is_dir():
            continue
        _refuse_zip_entry(info, path)
        budget.add(name, info.file_size)
        if name in entries:
            raise InputError(f"{path}: entry '{printable(name)}' occurs twice")
        entries[name] = info
    return entries


def _refuse_zip_entry(info: zipfile.ZipInfo, path: Path) -> None:
    name = printable(info.filename)
    if stat.S_ISLNK(info.external_attr >> 16):
        raise InputError(f"{path}: entry '{name}' is a link; archives must hold plain files")
    if info.flag_bits & 1:
        raise InputError(f"{path}: entry '{name}' is encrypted")
    if _expands_too_far(info.file_size, info.compress_size):
        raise InputError(f"{path}: entry '{name}' expands more than {MAX_EXPANSION} times; refused as an archive bomb")


def _plain_tar(path: Path) -> IO[bytes]:
    """The uncompressed tar file, open for random access. Its content, not its suffix, tells if it is compressed."""
    with path.open("rb") as head:
        compressed = head.read(2) == b"\x1f\x8b"
    if not compressed:
        return path.open("rb")
    plain = tempfile.TemporaryFile()  # noqa: SIM115 - stays open as long as the store
    try:
        _expand(path, plain)
    except BaseException:
        plain.close()
        raise
    return plain


def _expand(path: Path, plain: IO[bytes]) -> None:
    packed, size = path.stat().st_size, 0
    with gzip.open(path) as source:
        while chunk := source.read(_CHUNK_BYTES):
            size += len(chunk)
            if size > MAX_TOTAL_BYTES or _expands_too_far(size, packed):
                raise InputError(f"{path}: expands past {size} bytes from {packed}; refused as an archive bomb")
            plain.write(chunk)
    plain.seek(0)


def _tar_spans(file: IO[bytes], path: Path) -> dict[str, tuple[int, int]]:
    """The (offset, size) of every file by its name, once the whole archive has been checked."""
    spans: dict[str, tuple[int, int]] = {}
    budget = _Budget(path)
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined] # else tarfile keeps every header in memory
                name = archive_name(member.name, str(path))
                if member.isdir():
                    continue
                _refuse_tar_member(member, path)
                budget.add(name, member.size)
                if name in spans:
                    raise InputError(f"{path}: entry '{printable(name)}' occurs twice")
                spans[name] = (member.offset_data, member.size)
            end = archive.offset
    except (OSError, EOFError, ValueError, tarfile.TarError) as error:
        raise InputError(f"{path}: cannot be read as tar: {error}") from error
    _check_tar_end(file, end, path)
    return spans


def _refuse_tar_member(member: tarfile.TarInfo, path: Path) -> None:
    if not member.isreg() or member.issparse():
        kind = "a link" if member.issym() or member.islnk() else "a special file"
        raise InputError(f"{path}: entry '{printable(member.name)}' is {kind}; archives must hold plain files")


def _check_tar_end(file: IO[bytes], offset: int, path: Path) -> None:
    """Raise InputError unless a block of zeros follows the last member.

    Without one the archive was cut off, or a header is damaged; tarfile stops at either without an error.
    """
    file.seek(offset)
    if file.read(_TAR_BLOCK_BYTES) != bytes(_TAR_BLOCK_BYTES):
        raise InputError(f"{path}: the archive is damaged or ends early, near byte {offset}")
