"""The program that runs inside the emulated machine: it loads one model file and answers images or is counted.

Started as ``python guest.py PLAN``, where PLAN is the JSON of ``Plan`` in emulator.py. It needs the standard library,
numpy and one runtime, and nothing of levit-edge. It prints a line ``done INDEX`` for each finished image.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MARK = 0x4C564954  # also in counting_plugin.c
WARMUP = 2

Run = Callable[[Any], Any]  # float32 [1, C, H, W] -> [1, classes]


def onnxruntime_model(path: str, _site: str) -> Run:
    """ONNX Runtime as levit-edge runs it on the host: all graph optimizations, one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})[0]


def executorch_model(path: str, site: str) -> Run:
    """ExecuTorch through its extension module alone: the Python package around it imports the whole compiler."""
    import torch

    (module,) = Path(site, "executorch", "extension", "pybindings").glob("_portable_lib.*.so")
    spec = importlib.util.spec_from_file_location("_portable_lib", module)
    assert spec is not None and spec.loader is not None
    runtime = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runtime)
    runtime._unsafe_reset_threadpool(1)
    program = runtime._load_for_executorch(path)
    return lambda image: program.forward([torch.from_numpy(image)])[0].numpy()


RUNTIMES = {"onnxruntime": onnxruntime_model, "executorch": executorch_model}


def answer(run: Run, images: Any, plan: dict[str, Any]) -> None:
    """The logits of this worker's share of the images, into ``plan["out"]``."""
    import numpy

    share = range(plan["worker"], len(images), plan["workers"])
    logits = []
    for index in share:
        logits.append(numpy.array(run(numpy.array(images[index : index + 1]))[0]))
        print(f"done {index}", flush=True)
    numpy.save(plan["out"], numpy.stack(logits))


def count(run: Run, images: Any, plan: dict[str, Any]) -> None:
    """``plan["runs"]`` inferences of the first image, each between marks; the memory map goes to ``plan["out"]``."""
    import numpy

    image = numpy.array(images[:1])
    prctl = ctypes.CDLL(None).prctl
    for _ in range(WARMUP):
        run(image)
    for index in range(plan["runs"]):
        prctl(MARK, 1, 0, 0, 0)
        run(image)
        prctl(MARK, 0, 0, 0, 0)
        print(f"done {index}", flush=True)
    Path(plan["out"]).write_text(Path("/proc/self/maps").read_text(encoding="utf-8"), encoding="utf-8")


def main() -> None:
    """Do what the plan says."""
    plan = json.loads(sys.argv[1])
    sys.path[:0] = plan["site"]
    import numpy

    sys.setdlopenflags(os.RTLD_LAZY)
    run = RUNTIMES[plan["runtime"]](plan["model"], plan["site"][0])
    images = numpy.load(plan["images"], mmap_mode="r")
    (count if plan["runs"] else answer)(run, images, plan)


if __name__ == "__main__":
    main()
