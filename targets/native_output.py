"""Keeping what native code prints from the user: libraries in C++ write to the file descriptors and ask nobody."""

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

# ExecuTorch looks for an ARM core's identity on every machine and says so on standard error when it finds none; it also
# tells when its number of threads is set.
_NOISE = re.compile(rb"\[cpuinfo_utils\.cpp:\d+\]|\[threadpool\.cpp:\d+\] Resetting threadpool")


@contextmanager
def hushed_stderr() -> Iterator[None]:
    """Hold back what is written to file descriptor 2 meanwhile, for the block that first loads a native runtime.

    Afterwards known noise is logged at debug level and every other line is written to standard error after all.
    """
    with tempfile.TemporaryFile() as held:
        try:
            with _redirected(_STDERR, held.fileno()):
                yield
        finally:
            held.seek(0)
            _pass_on(held.read().splitlines(keepends=True))


@contextmanager
def clean_stdout(*, show: bool) -> Iterator[None]:
    """Let nothing that others print meanwhile, from Python or from native code, reach standard output.

    ``show`` sends it to standard error, otherwise it is dropped. What is for standard output is written afterwards.
    """
    with open(os.devnull, "w", encoding="utf-8") as sink:  # noqa: PTH123
        python, descriptor = (sys.stderr, _STDERR) if show else (sink, sink.fileno())
        with _redirected(_STDOUT, descriptor), redirect_stdout(python):
            yield


@contextmanager
def _redirected(descriptor: int, to: int) -> Iterator[None]:
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
    """Empty the buffers of Python and of C, so that each line lands where it belonged when it was written."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    ctypes.CDLL(None).fflush(None)


def _pass_on(lines: list[bytes]) -> None:
    for line in lines:
        if _NOISE.match(line):
            logger.debug("%s", line.decode(errors="replace").strip())
        else:
            os.write(_STDERR, line)
