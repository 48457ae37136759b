"""What surrounds the work of a verb."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from levit_edge.cli.logs import is_verbose, refuse_huge_images
from levit_edge.errors import LevitEdgeError
from levit_edge.progress import Progress
from targets.native_output import clean_stdout


@contextmanager
def working() -> Iterator[Progress]:
    """Progress on standard error, and standard output kept free for the answer."""
    from levit_edge.cli.progress import stderr_progress

    refuse_huge_images()
    with clean_stdout(show=is_verbose()), stderr_progress() as progress:
        try:
            yield progress
        except BrokenPipeError as error:  # not the reader of the answer: nothing is written yet
            raise LevitEdgeError(f"a program that levit-edge talked to has ended: {error}") from error
