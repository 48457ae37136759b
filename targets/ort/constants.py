"""The constants of an ``.onnx``, as :mod:`targets.program.constants` compares them."""

from __future__ import annotations

from typing import Any

import numpy as np

from targets.ort.tap import layer_nodes
from targets.program.constants import Array, Fact, Graph, Step, floats, integers, quantization, stored_integers
from targets.target import OUTPUT_NAME

_QUANTIZE = ("QuantizeLinear", "DequantizeLinear")


def file_graph(model: Any) -> Graph:
    """The steps of an ONNX model."""
    from onnx import numpy_helper

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    described = {name for node in model.graph.node if node.op_type in _QUANTIZE for name in _described(node, constants)}
    layers = layer_nodes(model.graph)
    last = {layer.last.output[0] for layer in layers}
    # A MatMul has the weight of a linear layer as [in, out], torch as [out, in].
    turned = {
        layer.product.input[1] for layer in layers if layer.product.op_type == "MatMul" and layer.kind == "linear"
    }
    constants |= {name: constants[name].T for name in turned & constants.keys()}
    steps = [Step((), (name,), _constant_facts(values)) for name, values in constants.items() if name not in described]
    for node in model.graph.node:
        facts = _quantization(node, constants) if node.op_type in _QUANTIZE else ()
        steps.append(Step(tuple(node.input), tuple(node.output), facts, node.output[0] in last))
    return Graph(tuple(steps), OUTPUT_NAME)


def _described(node: Any, constants: dict[str, Array]) -> list[str]:
    """The constants that the facts of a quantize or dequantize describe."""
    return [*node.input[1:], *([node.input[0]] if node.input[0] in constants and _per_channel(node, constants) else [])]


def _per_channel(node: Any, constants: dict[str, Array]) -> bool:
    return constants[node.input[1]].ndim > 0


def _quantization(node: Any, constants: dict[str, Array]) -> tuple[Fact, ...]:
    scale = constants[node.input[1]]
    # Without a zero point it is 0, of unsigned integers.
    zero_point = constants[node.input[2]] if len(node.input) > 2 else np.zeros_like(scale, dtype=np.uint8)
    if _per_channel(node, constants):
        (axis,) = [attribute.i for attribute in node.attribute if attribute.name == "axis"] or [1]
        return integers(constants[node.input[0]], scale, zero_point, axis)
    return quantization(float(scale), int(zero_point), int(np.iinfo(zero_point.dtype).min))


def _constant_facts(values: Array) -> tuple[Fact, ...]:
    """Of a constant that is stored as it is; sizes, axes and the like are int64 and show in the layers."""
    if np.issubdtype(values.dtype, np.floating):
        return floats(values)
    return (stored_integers(values),) if values.dtype in (np.int8, np.uint8, np.int32) else ()
