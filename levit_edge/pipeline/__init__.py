"""The flow from end to end: what each verb of the command line does, callable from Python."""

from __future__ import annotations

from levit_edge.pipeline.build import build
from levit_edge.pipeline.diverge import diverge
from levit_edge.pipeline.options import BuildOptions
from levit_edge.pipeline.verbs import bench, evaluate, inspect, predict

__all__ = ["BuildOptions", "bench", "build", "diverge", "evaluate", "inspect", "predict"]
