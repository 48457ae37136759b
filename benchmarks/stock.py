"""The recipes that ONNX Runtime and ExecuTorch recommend, on the model as published: nothing fused or reshaped."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from functools import partial
from pathlib import Path

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
    def __init__(self, images: Images) -> None:
        self._feeds = iter({INPUT_NAME: images[index : index + 1]} for index in range(len(images)))

    def get_next(self) -> dict[str, Images] | None:
        return next(self._feeds, None)


def export_onnx(model: Published, example: Tensor, path: Path) -> None:
    """``torch.onnx.export`` with its defaults, weights inside the file."""
    program = torch.onnx.export(
        model, (example,), dynamo=True, input_names=[INPUT_NAME], output_names=[OUTPUT_NAME], verbose=False
    )
    assert program is not None
    program.save(path, external_data=False)


def _quantize_onnx(source: Path, images: Images, path: Path) -> None:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = path.with_suffix(".prepared.onnx")
    quant_pre_process(source, prepared)
    quantize_static(
        prepared,
        path,
        _Reader(images),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def onnxruntime_entries(model: Published, images: Images, folder: Path) -> Iterable[Entry]:
    """Float export, then ``quantize_static`` of it; the float file stays in ``folder`` as ``stock.onnx``."""
    plain, integer = folder / "stock.onnx", folder / "stock.int8.onnx"
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
    _quantize_onnx(plain, images, integer)
    yield Entry(
        name="stock-onnxruntime-int8",
        title="ONNX Runtime, stock",
        family="onnxruntime",
        precision="int8",
        how="quant_pre_process, quantize_static: QDQ, U8 activations, S8 per-channel weights, min-max",
        runner=OrtRunner(integer, 1),
        size_bytes=file_size(integer),
    )


def _quantize_torch(model: Published, images: Images) -> ExportedProgram:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    example = torch.from_numpy(images[:1])
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(torch.export.export(model, (example,)).module(), quantizer)
    for index in range(len(images)):
        prepared(torch.from_numpy(images[index : index + 1]))
    return torch.export.export(convert_pt2e(prepared), (example,))


def executorch_entries(model: Published, images: Images, folder: Path) -> Iterable[Entry]:
    """Float program, then the XNNPACK quantizer's, both lowered with the XNNPACK partitioner."""
    plain, integer = folder / "stock.pte", folder / "stock.int8.pte"
    with torch.no_grad():
        lower(torch.export.export(model, (torch.from_numpy(images[:1]),)), plain, False)
        lower(_quantize_torch(model, images), integer, False)
    yield Entry(
        name="stock-executorch-float32",
        title="ExecuTorch, stock",
        family="executorch",
        precision="float32",
        how="torch.export of the published model with its attention bias gathered once, XnnpackPartitioner",
        runner=XnnpackRunner(plain, 1),
        size_bytes=file_size(plain),
        delegates=contents(plain).delegates,
    )
    yield Entry(
        name="stock-executorch-int8",
        title="ExecuTorch, stock",
        family="executorch",
        precision="int8",
        how="PT2E, XNNPACKQuantizer with get_symmetric_quantization_config(is_per_channel=True), XnnpackPartitioner",
        runner=XnnpackRunner(integer, 1),
        size_bytes=file_size(integer),
        delegates=contents(integer).delegates,
    )
