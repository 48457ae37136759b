"""The constants of a ``.mlpackage``, as :mod:`targets.program.constants` compares them."""

from __future__ import annotations

import numpy as np

from targets.coreml.mil.records import INTEGER_RANGES, Operation, Source
from targets.coreml.tap import LAYERS
from targets.program.constants import Fact, Graph, Step, floats, integers, quantization


def file_graph(source: Source) -> Graph:
    """The steps of a package."""
    dtypes = {value.name: value.dtype for operation in source.operations for value in operation.outputs}
    steps = (
        Step(operation.input_names, operation.output_names, _facts(source, operation, dtypes), operation.type in LAYERS)
        for operation in source.operations
    )
    return Graph(tuple(steps), source.output.name)


def _facts(source: Source, operation: Operation, dtypes: dict[str, str]) -> tuple[Fact, ...]:
    bound = {
        argument: source.constants[names[0]].values
        for argument, names in operation.inputs.items()
        if names[0] in source.constants
    }
    if operation.type == "constexpr_affine_dequantize":
        values, scales, zero_points = (bound[argument] for argument in ("quantized_data", "scale", "zero_point"))
        return integers(values, scales, zero_points, operation.attributes["axis"])
    if operation.type in ("quantize", "dequantize"):
        kind = operation.attributes.get("output_dtype") or dtypes[operation.inputs["input"][0]]
        zero_point = int(bound.get("zero_point", np.zeros(())))
        return quantization(float(bound["scale"]), zero_point, INTEGER_RANGES[kind][0])
    tensors = [values for values in bound.values() if np.issubdtype(values.dtype, np.floating)]
    return tuple(fact for values in tensors for fact in floats(values))
