"""OpenVINO with NNCF, the strongest peer on x86: ``nncf.quantize`` of the published model."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.entry import Entry, Precision, file_size
from benchmarks.stock import Images
from targets.runner import Image, Logits

NEEDED = ("nncf", "openvino")


class OpenVinoRunner:
    """A model in OpenVINO's CPU plugin with one thread; floats stay float32."""

    executed = True
    runtime = "openvino-cpu"

    def __init__(self, path: Path) -> None:
        import openvino

        settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.Core().compile_model(path, "CPU", settings)
        self._request = compiled.create_infer_request()
        self._output = compiled.output(0)

    def __call__(self, image: Image) -> Logits:
        found = self._request.infer([np.ascontiguousarray(image)], share_inputs=True)
        logits: Logits = found[self._output].copy()
        return logits


def _quantize(model: Any, images: Images, transformer: bool) -> Any:
    os.environ.setdefault("NNCF_CI", "1")  # a benchmark reports to nobody
    import nncf

    dataset = nncf.Dataset([images[index : index + 1] for index in range(len(images))])
    kind = nncf.ModelType.TRANSFORMER if transformer else None
    return nncf.quantize(model, dataset, subset_size=len(images), model_type=kind)


def _entry(name: str, precision: Precision, how: str, model: Any, folder: Path) -> Entry:
    import openvino

    path = folder / f"{name}.xml"
    openvino.save_model(model, path, compress_to_fp16=False)
    return Entry(
        name=name,
        title="OpenVINO" if precision == "float32" else "NNCF + OpenVINO",
        family="openvino",
        precision=precision,
        how=how,
        runner=OpenVinoRunner(path),
        size_bytes=file_size(path, path.with_suffix(".bin")),
    )


def entries(exported: Path, images: Images, folder: Path) -> Iterable[Entry]:
    """Float, and int8 with NNCF's defaults and with its settings for transformers, from the ONNX file ``exported``."""
    import openvino

    def read() -> Any:
        return openvino.Core().read_model(exported)

    yield _entry(
        "stock-openvino-float32",
        "float32",
        "the ONNX file of stock-onnxruntime-float32, read by OpenVINO",
        read(),
        folder,
    )
    for name, transformer, settings in (
        ("nncf-default-int8", False, "defaults"),
        ("nncf-transformer-int8", True, "model_type=TRANSFORMER"),
    ):
        how = f"nncf.quantize of the model of stock-openvino-float32, {settings}"
        yield _entry(name, "int8", how, _quantize(read(), images, transformer), folder)
