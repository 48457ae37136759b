"""The layers of an ``.onnx`` as ONNX Runtime computes them: a copy of the graph with more outputs.

For a layer that is stored as integers, the new output is that of its QuantizeLinear, which ONNX Runtime still fuses
into the integer kernel. It would not choose that kernel if the float value in between were an output.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from targets.ort.run import session
from targets.program.tap import Kind, Layer, stored
from targets.runner import Image
from targets.target import INPUT_NAME

KINDS: dict[str, Kind] = {"Conv": "conv", "Gemm": "linear", "MatMul": "matmul"}


@dataclass(frozen=True)
class _Tapped:
    """One layer of the graph: ``output`` is the tensor to fetch, ``quantize`` the operator that stores it."""

    kind: Kind
    name: str
    output: str
    quantize: Any | None


@dataclass(frozen=True)
class LayerNodes:
    """The operators of one layer: ``product`` takes its weight, and ``last`` gives its output.

    They differ where a linear layer of more than two dimensions is a MatMul and an Add of its bias.
    """

    kind: Kind
    product: Any
    last: Any


def layer_nodes(graph: Any) -> list[LayerNodes]:
    """The layers of an ONNX graph, in the order of execution."""
    bias = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 1}
    constant = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if set(node.input) <= constant:
            constant.add(node.output[0])
        if node.op_type == "DequantizeLinear" and node.input[0] in bias:
            bias.add(node.output[0])
    layers = []
    for node in graph.node:
        if node.op_type in KINDS:
            is_linear = node.op_type == "MatMul" and node.input[1] in constant
            users = [user for user in graph.node if node.output[0] in user.input] if is_linear else []
            adds_bias = [user.op_type for user in users] == ["Add"] and bool(bias & set(users[0].input))
            kind: Kind = "linear" if is_linear else KINDS[node.op_type]
            layers.append(LayerNodes(kind, node, users[0] if adds_bias else node))
    return layers


def _tapped(graph: Any) -> list[_Tapped]:
    found = []
    for layer in layer_nodes(graph):
        (name,) = layer.last.output
        users = [user for user in graph.node if name in user.input]
        quantize = users[0] if [user.op_type for user in users] == ["QuantizeLinear"] else None
        found.append(_Tapped(layer.kind, name, quantize.output[0] if quantize is not None else name, quantize))
    return found


def _layer(tapped: _Tapped, data: np.ndarray[Any, Any], graph: Any) -> Layer:
    from onnx import numpy_helper

    if tapped.quantize is None:
        return Layer(tapped.kind, tapped.name, data)
    constants = {tensor.name: tensor for tensor in graph.initializer if tensor.name in tapped.quantize.input}
    scale, zero_point = (numpy_helper.to_array(constants[name]) for name in tapped.quantize.input[1:])
    lowest = int(np.iinfo(data.dtype).min)
    return stored(tapped.kind, tapped.name, data, float(scale), int(zero_point), lowest)


def add_outputs(model: Any) -> list[_Tapped]:
    """Make every layer of an ONNX model an output, in place; gives back the layers, in the order of execution."""
    import onnx

    layers = _tapped(model.graph)
    outputs = {output.name for output in model.graph.output}
    for layer in layers:
        if layer.output not in outputs:
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(layer.output))
    return layers


def _unshare(graph: Any) -> None:
    """Give each DequantizeLinear constants of its own: ONNX Runtime's exact mode fails where two share a zero point."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        for index, name in enumerate(node.input):
            if node.op_type == "DequantizeLinear" and name in constants:
                own = graph.initializer.add()
                own.CopyFrom(constants[name])
                own.name = node.input[index] = f"{name} of {node.output[0]}"


def open_tap(path: Path, *, exact: bool = False) -> Callable[[Image], tuple[Layer, ...]]:
    """A function that gives every layer of the ``.onnx`` on one image, as this host's ONNX Runtime computes it.

    ``exact``: see :func:`targets.ort.run.session`. Raises InputError when ``path`` is not a model that ONNX Runtime can
    load.
    """
    import onnx

    session(path, 1)  # so that the error about a damaged file names that file, and not the copy
    model = onnx.load(path)
    layers = add_outputs(model)
    if exact:
        _unshare(model.graph)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        onnx.save(model, copy)
        run = session(copy, 1, exact=exact).run

    def tap(image: Image) -> tuple[Layer, ...]:
        values = run([layer.output for layer in layers], {INPUT_NAME: image})
        return tuple(_layer(layer, data, model.graph) for layer, data in zip(layers, values, strict=True))

    return tap


def tap(path: Path, image: Image) -> tuple[Layer, ...]:
    """Every layer of the ``.onnx`` on ``image`` float32 [1, C, H, W], as this host's ONNX Runtime computes it.

    Raises InputError when ``path`` is not a model that ONNX Runtime can load.
    """
    return open_tap(path)(image)
