"""The recipes that ONNX Runtime and ExecuTorch recommend, on the model as published: nothing fused or reshaped."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader
from torch import Tensor, nn
from torch.export import ExportedProgram

from benchmarks.entry import Entry, file_size
from levit_edge.families.levit.model import AttentionCore
from targets.ort.run import OrtRunner
from targets.target import INPUT_NAME, OUTPUT_NAME
from targets.xnnpack.contents import contents
from targets.xnnpack.lower import lower
from targets.xnnpack.run import XnnpackRunner

Images = NDArray[np.float32]
OnnxMethod = Literal["MinMax", "Entropy", "Percentile"]

ONNX_FILE = "stock.onnx"
ONNX_METHODS: dict[OnnxMethod, str] = {
    "MinMax": "min-max",
    "Entropy": "ranges of least entropy",
    "Percentile": "ranges of the percentile 99.999",
}
IMAGES_AT_ONCE = 8


class Published(nn.Module):
    """The reference model with its logits as the only output. float32 [B, C, H, W] -> [B, classes].

    The attention bias is gathered once, as the published implementations do in eval mode, and not in every run.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = deepcopy(model)
        for block in self.model.modules():
            if isinstance(block, AttentionCore):
                block.register_buffer("gathered", block.score_bias().detach())
                block.score_bias = partial(getattr, block, "gathered")  # type: ignore[method-assign]

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.model(image).logits
        return logits


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # its base carries no types
    """One image after the other; ``set_range`` and the length let ONNX Runtime take a few at a time."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self.set_range(0, len(images))

    def __len__(self) -> int:
        return len(self._images)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._rest = iter(range(start_index, end_index))

    def get_next(self) -> dict[str, Images] | None:
        index = next(self._rest, None)
        return None if index is None else {INPUT_NAME: self._images[index : index + 1]}


def export_onnx(model: Published, example: Tensor, path: Path) -> None:
    """``torch.onnx.export`` with its defaults, weights inside the file."""
    program = torch.onnx.export(
        model, (example,), dynamo=True, input_names=[INPUT_NAME], output_names=[OUTPUT_NAME], verbose=False
    )
    assert program is not None
    program.save(path, external_data=False)


def _quantize_onnx(source: Path, images: Images, path: Path, method: OnnxMethod) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = path.with_suffix(".prepared.onnx")
    quant_pre_process(source, prepared)
    # It would keep every tensor of every image in memory before it makes a histogram.
    few = {} if method == "MinMax" else {"CalibStridedMinMax": math.gcd(len(images), IMAGES_AT_ONCE)}
    with redirect_stdout(sys.stderr):  # the histograms report their progress
        quantize_static(
            prepared,
            path,
            _Reader(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=getattr(CalibrationMethod, method),
            extra_options=few,
        )


def onnxruntime_entries(model: Published, images: Images, folder: Path) -> Iterable[Entry]:
    """Float export, then ``quantize_static`` of it; the float file stays in ``folder`` as ``ONNX_FILE``."""
    plain = folder / ONNX_FILE
    export_onnx(model, torch.from_numpy(images[:1]), plain)
    yield Entry(
        name="stock-onnxruntime-float32",
        title="ONNX Runtime, stock",
        family="onnxruntime",
        precision="float32",
        how="torch.onnx.export of the published model",
        runner=OrtRunner(plain, 1),
        size_bytes=file_size(plain),
    )
    yield onnxruntime_int8(plain, images, folder, "MinMax")


def onnxruntime_int8(plain: Path, images: Images, folder: Path, method: OnnxMethod) -> Entry:
    """``quantize_static`` of the float file ``plain``, with ranges by ``method``."""
    kind = "" if method == "MinMax" else f"{method.lower()}-"
    integer = folder / f"stock.{kind}int8.onnx"
    _quantize_onnx(plain, images, integer, method)
    settings = "QDQ, U8 activations, S8 per-channel weights"
    return Entry(
        name=f"stock-onnxruntime-{kind}int8",
        title=f"ONNX Runtime, {'stock' if method == 'MinMax' else method.lower()}",
        family="onnxruntime",
        precision="int8",
        how=f"quant_pre_process, quantize_static: {settings}, {ONNX_METHODS[method]}",
        runner=OrtRunner(integer, 1),
        size_bytes=file_size(integer),
    )


def quantize(model: Published, images: Images, quantizer: Any) -> ExportedProgram:
    """PT2E: ``quantizer`` annotates the exported model, ``images`` give the ranges."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    example = torch.from_numpy(images[:1])
    with torch.no_grad():
        prepared = prepare_pt2e(torch.export.export(model, (example,)).module(), quantizer)
        for index in range(len(images)):
            prepared(torch.from_numpy(images[index : index + 1]))
        return torch.export.export(convert_pt2e(prepared), (example,))


def executorch_entries(model: Published, images: Images, folder: Path) -> Iterable[Entry]:
    """Float program, then the XNNPACK quantizer's, both lowered with the XNNPACK partitioner."""
    with torch.no_grad():
        plain = torch.export.export(model, (torch.from_numpy(images[:1]),))
    how = "torch.export of the published model with its attention bias gathered once, XnnpackPartitioner"
    yield _executorch_entry("stock-executorch-float32", "stock", how, plain, folder / "stock.pte")
    yield executorch_static(model, images, folder)


def executorch_static(model: Published, images: Images, folder: Path) -> Entry:
    """Everything that the quantizer annotates in int8, with ranges from ``images``."""
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xnnpack

    quantizer = xnnpack.XNNPACKQuantizer()
    quantizer.set_global(xnnpack.get_symmetric_quantization_config(is_per_channel=True))
    how = "PT2E, XNNPACKQuantizer with get_symmetric_quantization_config(is_per_channel=True), XnnpackPartitioner"
    program = quantize(model, images, quantizer)
    return _executorch_entry("stock-executorch-int8", "stock", how, program, folder / "stock.int8.pte")


def executorch_dynamic(model: Published, images: Images, folder: Path) -> Entry:
    """Linear layers in int8 with the range of each image, taken while it runs; all else in float."""
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xnnpack

    config = xnnpack.get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
    quantizer = xnnpack.XNNPACKQuantizer().set_module_type(nn.Linear, config)
    how = (
        "PT2E, XNNPACKQuantizer().set_module_type(Linear, get_symmetric_quantization_config(is_per_channel=True,"
        " is_dynamic=True)), XnnpackPartitioner; convolutions and attention compute in float"
    )
    program = quantize(model, images[:1], quantizer)
    return _executorch_entry("stock-executorch-dynamic-int8", "dynamic", how, program, folder / "stock.dynamic.pte")


def _executorch_entry(name: str, kind: str, how: str, program: ExportedProgram, path: Path) -> Entry:
    lower(program, path, False)
    return Entry(
        name=name,
        title=f"ExecuTorch, {kind}",
        family="executorch",
        precision="int8" if name.endswith("int8") else "float32",
        how=how,
        runner=XnnpackRunner(path, 1),
        size_bytes=file_size(path),
        delegates=contents(path).delegates,
    )
