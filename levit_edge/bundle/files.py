"""Reading and writing on disk: atomic files, content hashes, sizes, and disk errors that read as one line."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levit_edge.errors import InputError
from levit_edge.wording import validation_reason

if TYPE_CHECKING:
    from pydantic import ValidationError

MANIFEST_NAME = "manifest.json"  # what makes a folder a bundle

_READ_BYTES = 1 << 20

# What the user can do about each disk error. Any other error is a bug, and keeps its traceback.
_DISK_ERRORS = {
    errno.ENOSPC: "no space left on the disk; free some, or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space, or choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "permission denied; change the permissions, or choose another folder",
    errno.EPERM: "operation not permitted; change the permissions, or choose another folder",
    errno.ENOTDIR: "a file stands where a folder is needed; choose another path",
    errno.EEXIST: "a file stands where a folder is needed; choose another path",
    errno.EISDIR: "a folder stands where a file is needed; choose another path",
    errno.EPIPE: "nothing reads it any more",
    errno.EBADF: "it is not open; choose another path",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter path",
    errno.EXDEV: "it belongs to another disk or to a layer of a container image; choose another folder",
    errno.EIO: "the disk reported an input/output error; check the disk",
}


@contextmanager
def clear_os_errors(path: Path) -> Iterator[None]:
    """Turn the disk errors that a user can fix into one-line InputErrors about ``path``; others pass unchanged.

    An error about a file outside ``path`` names that file instead.
    """
    try:
        yield
    except OSError as error:
        advice = _DISK_ERRORS.get(error.errno or 0)
        if advice is None:
            raise
        name = error.filename
        outside = isinstance(name, str) and not Path(name).is_relative_to(path) and not path.is_relative_to(name)
        raise InputError(f"{Path(name) if outside else path}: {advice}") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write the whole file or leave what was there: a temporary file beside it, flushed to disk, then renamed.

    What is no file, such as a device or a pipe, is written to as it is, and a link stays a link. Raises InputError for
    the disk errors that a user can fix.
    """
    with clear_os_errors(path):
        if (number := _descriptor(path)) is not None:
            with os.fdopen(os.dup(number), "wb") as stream:  # it shares its place in the file with the open one
                stream.write(data)
        elif path.exists() and not path.is_file():
            with path.open("ab") as device:
                device.write(data)
        else:
            _replace(Path(os.path.realpath(path)), data)


def _descriptor(path: Path) -> int | None:
    """The number of the open file that ``path`` names, such as ``/dev/fd/3``; None for any other path."""
    if path.parent in (Path("/dev/fd"), Path("/proc/self/fd")) and path.name.isdecimal():
        return int(path.name)
    return {Path("/dev/stdout"): 1, Path("/dev/stderr"): 2}.get(path)


def _replace(path: Path, data: bytes) -> None:
    staged = path.with_name(f".{path.name}.tmp-{secrets.token_hex(4)}")
    try:
        with staged.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """:func:`write_bytes` in UTF-8, line ends as given."""
    write_bytes(path, text.encode())


def check_folder_of(path: Path | None) -> None:
    """InputError unless the folder of the file ``path`` exists; before the work that would be lost otherwise."""
    if path is not None and not path.absolute().parent.is_dir():
        raise InputError(f"{path}: {path.absolute().parent} is not a folder; name a file in a folder that exists")


def write_json(path: Path, value: Any) -> None:
    """:func:`write_bytes` of :func:`json_text`."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """The JSON layout of every file: two spaces, keys in the order given, a final newline. ValueError for NaN."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def schema_reason(error: ValidationError, kind: str, version: int) -> str:
    """The end of a message about a JSON file: why it is not ``kind``, such as "a report", in schema ``version``."""
    for problem in error.errors():
        if problem["loc"] == ("schema_version",):
            return f"has schema_version {problem['input']!r}; this levit-edge reads {version}: build it again"
    reason = validation_reason(error)
    return reason if error.errors()[0]["type"] == "json_invalid" else f"is not {kind}: {reason}"


def fsync_path(path: Path) -> None:
    """Flush one file's content, or one folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def files_below(folder: Path) -> list[tuple[str, Path]]:
    """``(relative name with slashes, path)`` of every file below ``folder``, sorted by name on any system."""
    return sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of the file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def sha256_tree(folder: Path) -> str:
    """One SHA-256 for a folder such as ``model.mlpackage``: over the sorted lines ``sha256  relative name``.

    It equals ``sha256sum`` of the listing that ``sha256sum`` prints for those files in that order. Times, permissions
    and empty folders do not count.
    """
    digest = hashlib.sha256()
    for name, path in files_below(folder):
        digest.update(f"{sha256_file(path)}  {name}\n".encode())
    return digest.hexdigest()


def sha256_path(path: Path) -> str:
    """:func:`sha256_tree` of a folder, :func:`sha256_file` of a file."""
    return sha256_tree(path) if path.is_dir() else sha256_file(path)


def size_bytes(path: Path) -> int:
    """Size of a file, or of all files below a folder."""
    if path.is_dir():
        return sum(file.stat().st_size for _, file in files_below(path))
    return path.stat().st_size
