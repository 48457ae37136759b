"""levit-edge: from a LeViT checkpoint to verified int8 bundles for Android, iOS and ARM Linux.

``levit_edge.build(levit_edge.BuildOptions(...))`` is ``levit-edge build`` from Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from levit_edge.pipeline import BuildOptions as BuildOptions
    from levit_edge.pipeline import build as build

__version__ = "0.1.0"
_FROM_PIPELINE = ("BuildOptions", "build")


def __getattr__(name: str) -> Any:
    """Import the flow, and torch with it, only when it is asked for."""
    if name in _FROM_PIPELINE:
        from levit_edge import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
