"""Exchanging two names in one atomic step: ``renameat2`` on Linux, ``renamex_np`` on macOS."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_RENAME_SWAP = 2

# The kernel, the C library or the file system cannot do it; the caller then renames one after the other.
_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM}


def exchange(first: Path, second: Path) -> bool:
    """Swap two existing names on one file system; False when this system cannot. Raises OSError when the swap fails."""
    call = _system_call()
    if call is None:
        return False
    if call(os.fsencode(first), os.fsencode(second)) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(second))


def _system_call() -> Callable[[bytes, bytes], int] | None:
    if sys.platform == "linux":
        library = ctypes.CDLL(None, use_errno=True)
        if hasattr(library, "renameat2"):
            return lambda a, b: int(library.renameat2(_AT_FDCWD, a, _AT_FDCWD, b, _RENAME_EXCHANGE))
    if sys.platform == "darwin":
        library = ctypes.CDLL(None, use_errno=True)
        if hasattr(library, "renamex_np"):
            return lambda a, b: int(library.renamex_np(a, b, _RENAME_SWAP))
    return None
