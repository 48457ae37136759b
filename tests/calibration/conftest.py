"""Generated photographs, files and archives for the tests of the image room."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakePhoto = Callable[..., Image.Image]
Encode = Callable[..., bytes]


def _photo(height: int, width: int, seed: int = 0) -> Image.Image:
    """Smooth structure plus noise in RGB, so that every resampling filter has something to get wrong."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / (7 + c) + seed) + np.cos(columns / (5 + c)) for c in range(3)]
    noise = np.random.default_rng(seed).normal(0, 12, (height, width, 3))
    return Image.fromarray(np.clip(128 + 50 * np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8))


def _encode(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def photo() -> MakePhoto:
    return _photo


@pytest.fixture(scope="session")
def encode() -> Encode:
    return _encode


@pytest.fixture(scope="session")
def files() -> dict[str, bytes]:
    """Three classes of four small PNGs: path → bytes."""
    names = [(kind, number) for kind in ("cat", "dog", "frog") for number in range(4)]
    return {f"{kind}/{number:02}.png": _encode(_photo(10, 12, seed)) for seed, (kind, number) in enumerate(names)}


@pytest.fixture(scope="session")
def write() -> Callable[[Path, dict[str, bytes]], Path]:
    """Write path → bytes as a folder, ``.zip``, ``.tar`` or ``.tar.gz``, after the suffix of the target."""
    return _write


def _write(target: Path, content: dict[str, bytes]) -> Path:
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in content.items():
                archive.writestr(name, data)
    elif ".tar" in target.suffixes:
        with tarfile.open(target, "w:gz" if target.suffix == ".gz" else "w") as tar:
            for name, data in content.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    else:
        for name, data in content.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(data)
    return target
