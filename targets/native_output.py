"""Keeping the output of native libraries away from the user: C++ code writes straight to the file descriptors."""

from __future__ import annotations

import ctypes
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

logger = logging.getLogger(__name__)

_STDOUT, _STDERR = 1, 2


@contextmanager
def hushed_stderr(noise: re.Pattern[bytes]) -> Iterator[None]:
    """Keep the lines that match ``noise`` from standard error; for the block that first loads a native runtime.

    Whatever is written to file descriptor 2 inside the block is held back. At its end, the noise goes to the log at
    debug level, and every other line goes to standard error.
    """
    with tempfile.TemporaryFile() as held:
        try:
            with _redirected(_STDERR, held.fileno()):
                yield
        finally:
            held.seek(0)
            for line in held.readlines():
                if noise.match(line):
                    logger.debug("%s", line.decode(errors="replace").strip())
                else:
                    os.write(_STDERR, line)


@contextmanager
def clean_stdout(*, show: bool) -> Iterator[None]:
    """Keep standard output empty inside the block, so that the answer written after it stands there alone.

    What Python and native code print meanwhile goes to standard error where ``show`` is set, and is dropped otherwise.
    """
    with open(os.devnull, "w", encoding="utf-8") as sink:  # noqa: PTH123
        python, descriptor = (sys.stderr, _STDERR) if show else (sink, sink.fileno())
        with _redirected(_STDOUT, descriptor), redirect_stdout(python):
            yield


@contextmanager
def _redirected(descriptor: int, to: int) -> Iterator[None]:
    """Let everything written to ``descriptor`` go to the descriptor ``to`` inside the block."""
    _flush()
    before = os.dup(descriptor)
    try:
        os.dup2(to, descriptor)
        yield
    finally:
        _flush()
        os.dup2(before, descriptor)
        os.close(before)


def _flush() -> None:
    """Empty the buffers of Python and of C, so that each line reaches the descriptor it was written for."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    ctypes.CDLL(None).fflush(None)
