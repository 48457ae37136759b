"""OpenVINO with NNCF, the strongest peer on x86: ``nncf.quantize`` of the published model."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.entry import Entry, Precision, file_size
from benchmarks.stock import Images
from targets.runner import Image, Logits

NEEDED = ("nncf", "openvino")
MAX_DROP = 0.01  # NNCF's default: one answer of a hundred may change
MOST_ITERATIONS, RANKING_IMAGES = 10, 32  # without a bound it takes hours: every layer may be put back and ranked again
SMOOTH_QUANT_OFF = -1


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


def missing() -> dict[str, str]:
    """Why these peers cannot run here, by their name; empty where they can."""
    absent = [name for name in NEEDED if find_spec(name) is None]
    if not absent:
        return {}
    reason = f"{' and '.join(absent)} not installed; `pip install 'levit-edge[bench]'`"
    print(f"NNCF + OpenVINO left out: {reason}", file=sys.stderr)
    return {"NNCF + OpenVINO": reason}


def _quantize(model: Any, images: Images, transformer: bool) -> Any:
    nncf = _nncf()
    kind = nncf.ModelType.TRANSFORMER if transformer else None
    return nncf.quantize(model, nncf.Dataset(_single(images)), subset_size=len(images), model_type=kind)


def _quantize_controlled(model: Any, images: Images, answers: NDArray[np.intp]) -> Any:
    """Layers are put back into float until the answers to the calibration images are the float model's again.

    The logits that the validation returns rank the layers. SmoothQuant, a part of the settings for transformers, is
    off: NNCF 3.4 puts back the weights as they were before it, which then do not fit the smoothed activations.
    """
    nncf = _nncf()

    def agreement(compiled: Any, items: Iterable[tuple[Image, int]]) -> tuple[float, list[list[Logits]]]:
        output = compiled.output(0)
        found = [(compiled(image)[output].copy(), answer) for image, answer in items]
        agreed = [int(logits.argmax()) == answer for logits, answer in found]
        return float(np.mean(agreed)), [[logits] for logits, _ in found]

    pairs = list(zip(_single(images), answers.tolist(), strict=True))
    return nncf.quantize_with_accuracy_control(
        model,
        calibration_dataset=nncf.Dataset(_single(images)),
        validation_dataset=nncf.Dataset(pairs, lambda pair: pair[0]),
        validation_fn=agreement,
        max_drop=MAX_DROP,
        subset_size=len(images),
        model_type=nncf.ModelType.TRANSFORMER,
        advanced_quantization_parameters=nncf.AdvancedQuantizationParameters(
            smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=SMOOTH_QUANT_OFF)
        ),
        advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
            max_num_iterations=MOST_ITERATIONS, ranking_subset_size=min(RANKING_IMAGES, len(images))
        ),
    )


def _nncf() -> Any:
    os.environ.setdefault("NNCF_CI", "1")  # a benchmark reports to nobody
    import nncf

    return nncf


def _single(images: Images) -> list[Image]:
    return [images[index : index + 1] for index in range(len(images))]


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
    yield _entry(
        "stock-openvino-float32",
        "float32",
        "the ONNX file of stock-onnxruntime-float32, read by OpenVINO",
        _read(exported),
        folder,
    )
    yield from quantized(exported, images, folder)


def quantized(exported: Path, images: Images, folder: Path) -> Iterable[Entry]:
    """int8 with NNCF's defaults and with its settings for transformers."""
    for name, transformer, settings in (
        ("nncf-default-int8", False, "defaults"),
        ("nncf-transformer-int8", True, "model_type=TRANSFORMER"),
    ):
        how = f"nncf.quantize of the published model's ONNX file, read by OpenVINO; {settings}"
        yield _entry(name, "int8", how, _quantize(_read(exported), images, transformer), folder)


def controlled(exported: Path, images: Images, answers: NDArray[np.intp], folder: Path) -> Entry:
    """int8 but for the layers that NNCF's accuracy control left in float; ``answers`` are the float model's."""
    how = (
        "nncf.quantize_with_accuracy_control of the same file, model_type=TRANSFORMER without SmoothQuant; its metric"
        f" is the agreement with the float model on the {len(images)} calibration images, max_drop {MAX_DROP}, at most"
        f" {MOST_ITERATIONS} iterations, {RANKING_IMAGES} images rank the layers"
    )
    return _entry("nncf-controlled-int8", "int8", how, _quantize_controlled(_read(exported), images, answers), folder)


def _read(exported: Path) -> Any:
    import openvino

    return openvino.Core().read_model(exported)
