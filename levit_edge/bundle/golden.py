"""``golden.npz``: a few images, their input tensors and the logits expected for them, for an app to test itself with.

Arrays: ``pixels`` uint8 [N, H, W, C] after resize and crop, ``inputs`` float32 [N, C, H, W] after normalisation,
``logits`` float32 [N, K], ``names`` [N] of the images, ``runtime`` that produced the logits (a scalar text).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from levit_edge.bundle.files import write_bytes
from levit_edge.errors import InputError

GOLDEN_NAME = "golden.npz"

_FORMS = {"pixels": ("uint8", 4), "inputs": ("float32", 4), "logits": ("float32", 2)}
_OLDEST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Golden:
    """The content of ``golden.npz``; entry ``i`` of every array belongs to ``names[i]``."""

    pixels: NDArray[np.uint8]
    inputs: NDArray[np.float32]
    logits: NDArray[np.float32]
    names: tuple[str, ...]
    runtime: str

    def __post_init__(self) -> None:
        for field, (dtype, dims) in _FORMS.items():
            array: NDArray[Any] = getattr(self, field)
            if array.dtype != dtype or array.ndim != dims:
                raise ValueError(f"{field} is {array.dtype} {list(array.shape)}; expected {dtype} of {dims} dimensions")
            if len(array) != len(self.names):
                raise ValueError(f"{field} has {len(array)} entries for {len(self.names)} names")
        n, height, width, channels = self.pixels.shape
        if self.inputs.shape != (n, channels, height, width):
            raise ValueError(f"inputs {list(self.inputs.shape)} are not pixels {list(self.pixels.shape)} as NCHW")


def write_golden(
    folder: Path,
    *,
    pixels: NDArray[np.uint8],
    inputs: NDArray[np.float32],
    logits: NDArray[np.float32],
    names: Sequence[str],
    runtime: str,
) -> Path:
    """Write ``golden.npz`` into ``folder``; the same content gives the same bytes on any day.

    Raises ValueError when the arrays do not fit each other.
    """
    golden = Golden(pixels, inputs, logits, tuple(names), runtime)
    arrays = {field: np.ascontiguousarray(getattr(golden, field)) for field in _FORMS}
    path = folder / GOLDEN_NAME
    write_bytes(path, _npz(arrays | {"names": np.array(names, dtype=str), "runtime": np.array(runtime, dtype=str)}))
    return path


def read_golden(folder: Path) -> Golden:
    """Read ``golden.npz`` of a bundle; InputError when it is missing or does not fit."""
    path = folder / GOLDEN_NAME
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in (*_FORMS, "names", "runtime")}
        names = tuple(str(name) for name in arrays["names"])
        return Golden(arrays["pixels"], arrays["inputs"], arrays["logits"], names, str(arrays["runtime"]))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; build the bundle again") from None
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as golden values: {error}") from None


def _npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """An npz archive without compression, and with a fixed time stamp so that its bytes repeat."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", _OLDEST_ZIP_DATE)
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            archive.writestr(entry, content.getvalue())
    return buffer.getvalue()
