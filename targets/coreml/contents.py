"""Which operators a ``.mlpackage`` holds, and which of them are integer operators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from levit_edge.report.answers import Placement, Precision
from targets.coreml import MINIMUM_DEPLOYMENT_TARGET
from targets.coreml.mil.specification import main_block, main_function
from targets.target import Contents, operator_rows

_MOVES = ("reshape", "transpose", "expand_dims", "squeeze", "quantize", "dequantize", "cast")
_PRODUCTS = ("conv", "linear", "matmul")  # of integers they may give floats
_WEIGHTS = "constexpr_"


def contents(path: Path) -> Contents:
    """The operators of the package on disk. Raises InputError where it is no Core ML package.

    ``int8`` operators are those between dequantize and quantize, and layers and products behind dequantize: Core ML may
    compute them in integers.
    """
    notes = (f"minimum deployment target {MINIMUM_DEPLOYMENT_TARGET}; int8 kernels from A17 Pro and M4 on",)
    return Contents(None, operator_rows(_classified(list(main_block(main_function(path)).operations))), notes)


def _classified(operations: list[Any]) -> Iterator[tuple[str, Precision, Placement]]:
    kinds = {output.name: operation.type for operation in operations for output in operation.outputs}
    quantized = {name for op in operations if op.type == "quantize" for name in _argument_names(op)}
    for operation in operations:
        if operation.type == "const" or operation.type.startswith(_WEIGHTS):
            continue
        if operation.type in _MOVES:
            yield operation.type, "move", "runtime"
            continue
        activations = [kinds[name] for name in _argument_names(operation) if kinds.get(name, "const") != "const"]
        dequantized = [kind == "dequantize" or kind.startswith(_WEIGHTS) for kind in activations]
        stored = any(output.name in quantized for output in operation.outputs)
        integer = bool(dequantized) and all(dequantized) and (stored or operation.type in _PRODUCTS)
        yield operation.type, "int8" if integer else "float", "runtime"


def _argument_names(operation: Any) -> Iterator[str]:
    """The names of the tensors that an operator reads; values written in place have none."""
    for argument in operation.inputs.values():
        for binding in argument.arguments:
            if binding.name:
                yield binding.name
