"""Running an ``.onnx`` in ONNX Runtime's CPU provider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from levit_edge.errors import InputError
from levit_edge.wording import first_line
from targets.runner import Image, Logits
from targets.target import INPUT_NAME, OUTPUT_NAME


def session(path: Path, threads: int, optimized: Path | None = None, *, exact: bool = False) -> Any:
    """The ``.onnx`` as an ``onnxruntime.InferenceSession`` on ``threads`` threads, all graph optimizations on.

    ``optimized`` is where to write the graph as those optimizations leave it. ``exact``: on an x86 processor whose
    int8 instructions saturate between two products (AVX2, and AVX-512 without VNNI), take slower kernels that do not;
    elsewhere it changes nothing. InputError when ONNX Runtime cannot load the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")  # idle threads would slow the other session
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  # the bindings raise classes without a common base
        raise InputError(f"{path} is not a model that ONNX Runtime can load: {first_line(error)}") from None


class OrtRunner:
    """An ``.onnx`` in ONNX Runtime on ``threads`` threads; InputError when ONNX Runtime cannot load it."""

    executed, runtime = True, "onnxruntime-cpu"

    def __init__(self, path: Path, threads: int) -> None:
        self._run = session(path, threads).run

    def __call__(self, image: Image) -> Logits:
        logits: Logits = self._run([OUTPUT_NAME], {INPUT_NAME: image})[0]
        return logits
