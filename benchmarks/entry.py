"""What one row of the comparison is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from levit_edge.bundle.files import size_bytes
from targets.runner import Runner

Family = Literal["onnxruntime", "executorch", "coreml", "openvino"]
Precision = Literal["float32", "int8"]


@dataclass(frozen=True)
class Entry:
    """A model file, loaded with one thread. ``delegates`` is None where the runtime has no such thing."""

    name: str
    title: str
    family: Family
    precision: Precision
    how: str
    runner: Runner
    size_bytes: int
    delegates: int | None = None


def file_size(*paths: Path) -> int:
    """Bytes of all ``paths`` together; a folder counts with all that it holds."""
    return sum(size_bytes(path) for path in paths)
