"""The quantizers that coremltools and ExecuTorch offer for Core ML, on the model as published.

coremltools calibrates activations with ``predict``, which only macOS has. Here the interpreter of the project gives
the tensors instead; which ranges are made of them, and where quantize and dequantize go, is coremltools' own work. Its
PT2E quantizer for torch (``coremltools.optimize.torch.quantization``) imports modules that torch no longer has;
ExecuTorch carries the same quantizer for torchao, which is the one that runs here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram, default_decompositions

from benchmarks.entry import Entry, file_size
from benchmarks.stock import Images, Published, quantize
from targets.coreml import mil
from targets.coreml.lower import lower
from targets.coreml.run import load
from targets.target import INPUT_NAME

Ranges = dict[str, NDArray[np.float32]]

CALIBRATED = "linear_quantize_activations and linear_quantize_weights of coremltools, both linear_symmetric"


def entries(model: Published, images: Images, folder: Path) -> Iterable[Entry]:
    """coremltools with the ranges of all ``images``, as it is with those of the last one, and the PT2E quantizer."""
    plain = folder / "stock.mlpackage"
    with torch.no_grad():
        _lower(torch.export.export(model, (torch.from_numpy(images[:1]),)), plain)
    how = f"float16 package of the published model, then {CALIBRATED}"
    yield _entry(
        "stock-coreml-int8",
        "coremltools",
        f"{how}; ranges over all calibration images, computed by the interpreter",
        _quantized(plain, images, folder / "stock.int8.mlpackage"),
    )
    yield _entry(
        "stock-coreml-last-image-int8",
        "coremltools as released",
        "the same with the ranges of the last calibration image alone: coremltools 9.0 forgets those before it",
        _quantized(plain, images[-1:], folder / "stock.last.int8.mlpackage"),
    )
    yield _pt2e(model, images, folder / "stock.pt2e.mlpackage")


def _pt2e(model: Published, images: Images, path: Path) -> Entry:
    from coremltools.optimize.torch.quantization import LinearQuantizerConfig, ModuleLinearQuantizerConfig
    from executorch.backends.apple.coreml.quantizer import CoreMLQuantizer

    settings = ModuleLinearQuantizerConfig(quantization_scheme="symmetric", weight_per_channel=True)
    _lower(quantize(model, images, CoreMLQuantizer(LinearQuantizerConfig(global_config=settings))), path)
    how = "PT2E, ExecuTorch's CoreMLQuantizer, symmetric, per-channel weights; converted to a float16 package"
    return _entry("stock-coreml-pt2e-int8", "PT2E", how, path)


def _lower(program: ExportedProgram, path: Path) -> None:
    """Convert; ``stack``, which the interpreter does not know, becomes a concatenation."""
    stack = torch.ops.aten.stack.default
    lower(program.run_decompositions({stack: default_decompositions()[stack]}), path, True)


def _quantized(plain: Path, images: Images, path: Path) -> Path:
    """Write the package ``plain`` with activations and weights in int8; the ranges are those over ``images``."""
    import coremltools
    from coremltools.optimize import coreml
    from coremltools.optimize.coreml.experimental._model_debugger import ModelDebugger

    program = mil.load(plain)

    def ranges(debugger: Any, inputs: dict[str, Images], names: Iterable[str], units: Any) -> Ranges:
        del debugger, units
        return tensor_ranges(program, inputs[INPUT_NAME], names)

    symmetric = coreml.OptimizationConfig(global_config=coreml.OpLinearQuantizerConfig(mode="linear_symmetric"))
    model = coremltools.models.MLModel(str(plain), skip_model_load=True)
    with patch.object(ModelDebugger, "predict_intermediate_outputs", ranges):
        model = coreml.linear_quantize_activations(model, symmetric, [{INPUT_NAME: images}])
    coreml.linear_quantize_weights(model, symmetric).save(str(path))
    return path


def tensor_ranges(program: mil.Program, images: Images, names: Iterable[str]) -> Ranges:
    """The least and the greatest number, [2], of each named tensor over ``images`` [B, C, H, W]."""
    wanted, found = list(names), Ranges()
    for index in range(len(images)):
        for name, traced in program.trace(images[index : index + 1], wanted).items():
            values = np.append(found[name], traced.values) if name in found else traced.values
            found[name] = np.array([values.min(), values.max()], dtype=np.float32)
    return found


def _entry(name: str, kind: str, how: str, path: Path) -> Entry:
    return Entry(
        name=name,
        title=f"Core ML, {kind}",
        family="coreml",
        precision="int8",
        how=how,
        runner=load(path, 1),
        size_bytes=file_size(path),
    )
