"""What every verb that does real work runs inside."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from levit_edge.cli.console import is_verbose, stderr_progress
from levit_edge.errors import LevitEdgeError
from levit_edge.progress import Progress
from targets.native_output import clean_stdout


@contextmanager
def working() -> Iterator[Progress]:
    """Show progress on standard error, and keep everything off standard output until the answer is printed.

    Only the answer is written to the caller's standard output, and that happens after this block. A broken pipe inside
    it therefore comes from a program that levit-edge itself started, and is reported as an error.
    """
    # Pillow only warns about an image so large that it may be an attack on the memory; here that is an error. It is
    # known by its text, so that a verb without images need not import Pillow.
    warnings.filterwarnings("error", message="Image size .* could be decompression bomb")
    with clean_stdout(show=is_verbose()), stderr_progress() as progress:
        try:
            yield progress
        except BrokenPipeError as error:
            raise LevitEdgeError(f"a program that levit-edge talked to has ended: {error}") from error
