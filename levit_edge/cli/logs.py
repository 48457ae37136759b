"""Log lines on standard error, and silence for other packages' chatter unless the user asks for it."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

OWN_PACKAGES = ("levit_edge", "calibration", "quantize", "targets")

# What these report as a warning on every import or conversion is about their own optional parts:
#   coremltools    no scikit-learn of its liking, an untested torch, no native library outside macOS
#   torchao        its CUDA kernels
#   torch          a deprecated call in torchao; torchvision's operators that LeViT does not have
#   py.warnings    everything from the warnings module: meant for developers
CHATTY = (
    "coremltools",
    "py.warnings",
    "torch.onnx._internal.exporter._registration",
    "torch.utils._pytree",
    "torchao",
)
# coremltools draws progress bars through tqdm, which reads this when it is imported.
NO_BARS = "TQDM_DISABLE"


class _StderrHandler(logging.Handler):
    """Lines like ``levit-edge: warning: ...``, above the progress bar when there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.console = Console(stderr=True, markup=False, emoji=False, highlight=False)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = f"levit-edge: {record.levelname.lower()}: {self.format(record)}"
            self.console.print(message, soft_wrap=True)
        except Exception:  # noqa: BLE001  # as every handler of the standard library does
            self.handleError(record)


@contextmanager
def logging_to_stderr(*, verbose: bool, debug: bool) -> Iterator[None]:
    """Own log lines from warnings on (``verbose``: info, ``debug``: everything); the CHATTY only when verbose."""
    own = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    levels = dict.fromkeys(OWN_PACKAGES, own)
    levels |= dict.fromkeys(CHATTY, logging.WARNING if verbose or debug else logging.ERROR)
    handler = _StderrHandler()
    before = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings(), _captured_warnings(), _without_bars(not (verbose or debug)):
            yield
    finally:
        logging.getLogger().removeHandler(handler)
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def is_verbose() -> bool:
    """Whether other packages' chatter is wanted."""
    return logging.getLogger(OWN_PACKAGES[0]).isEnabledFor(logging.INFO)


def refuse_huge_images() -> None:
    """Pillow only warns of an image that is likely a decompression bomb; make that an error."""
    from PIL import Image

    warnings.simplefilter("error", Image.DecompressionBombWarning)


@contextmanager
def _captured_warnings() -> Iterator[None]:
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)


@contextmanager
def _without_bars(wanted: bool) -> Iterator[None]:
    ours = wanted and NO_BARS not in os.environ
    if ours:
        os.environ[NO_BARS] = "1"
    try:
        yield
    finally:
        if ours:
            os.environ.pop(NO_BARS, None)
