"""levit-edge: from an image classifier's checkpoint to verified int8 bundles for Android, iOS and ARM Linux.

Each verb of the command line is a function here, with a record of its options: ``levit_edge.build(
levit_edge.BuildOptions(...))`` is ``levit-edge build``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from levit_edge.pipeline.bench import bench as bench
    from levit_edge.pipeline.build import build as build
    from levit_edge.pipeline.diff import diff as diff
    from levit_edge.pipeline.evaluate import evaluate as evaluate
    from levit_edge.pipeline.gate import gate as gate
    from levit_edge.pipeline.inspect import inspect as inspect
    from levit_edge.pipeline.options import BenchOptions as BenchOptions
    from levit_edge.pipeline.options import BuildOptions as BuildOptions
    from levit_edge.pipeline.options import DiffOptions as DiffOptions
    from levit_edge.pipeline.options import EvaluateOptions as EvaluateOptions
    from levit_edge.pipeline.options import GateOptions as GateOptions
    from levit_edge.pipeline.options import InspectOptions as InspectOptions
    from levit_edge.pipeline.options import PredictOptions as PredictOptions
    from levit_edge.pipeline.options import SensitivityOptions as SensitivityOptions
    from levit_edge.pipeline.predict import predict as predict
    from levit_edge.pipeline.sensitivity import sensitivity as sensitivity

__version__ = "0.1.0"

_VERBS = ("bench", "build", "diff", "evaluate", "gate", "inspect", "predict", "sensitivity")
_OPTIONS = (
    "BenchOptions",
    "BuildOptions",
    "DiffOptions",
    "EvaluateOptions",
    "GateOptions",
    "InspectOptions",
    "PredictOptions",
    "SensitivityOptions",
)


def __getattr__(name: str) -> Any:
    """Import a verb, and torch with it, only when it is asked for."""
    if name in _OPTIONS:
        return getattr(import_module("levit_edge.pipeline.options"), name)
    if name in _VERBS:
        return getattr(import_module(f"levit_edge.pipeline.{name}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
