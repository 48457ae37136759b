"""Which operators a ``.mlpackage`` holds, and which of them are integer operators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from levit_edge.errors import InputError
from levit_edge.report.answers import Placement, Precision
from targets.coreml.target import MINIMUM_DEPLOYMENT_TARGET
from targets.target import Contents, operator_rows

_MOVES = {"reshape", "transpose", "expand_dims", "squeeze", "quantize", "dequantize", "cast", "identity"}
_WEIGHTS = "constexpr_"


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _operations(package: Path) -> list[Any]:
    import coremltools

    try:
        program = coremltools.utils.load_spec(str(package)).mlProgram
    except Exception as error:  # noqa: BLE001  # protobuf and file errors alike
        raise InputError(f"{package} is not a Core ML package: {_reason(error)}") from None
    if "main" not in program.functions:
        raise InputError(f"{package} is not a Core ML package: it has no function called main")
    function = program.functions["main"]
    operations: list[Any] = list(function.block_specializations[function.opset].operations)
    return operations


def _argument_names(operation: Any) -> Iterator[str]:
    for argument in operation.inputs.values():
        for binding in argument.arguments:
            if binding.name:
                yield binding.name


def _classified(operations: list[Any]) -> Iterator[tuple[str, Precision, Placement]]:
    kinds = {output.name: operation.type for operation in operations for output in operation.outputs}
    quantized = {name for op in operations if op.type == "quantize" for name in _argument_names(op)}
    for operation in operations:
        if operation.type == "const" or operation.type.startswith(_WEIGHTS):
            continue
        if operation.type in _MOVES:
            yield operation.type, "move", "runtime"
            continue
        activations = [kinds[n] for n in _argument_names(operation) if kinds.get(n, "const") != "const"]
        dequantized = [kind == "dequantize" or kind.startswith(_WEIGHTS) for kind in activations]
        stored = any(output.name in quantized for output in operation.outputs)
        integer = bool(dequantized) and all(dequantized) and (stored or operation.type in ("linear", "matmul"))
        yield operation.type, "int8" if integer else "float", "runtime"


def contents(path: Path) -> Contents:
    """Operators of the package on disk. ``int8`` are those between dequantize and quantize: Core ML may fuse them."""
    notes = (f"minimum deployment target {MINIMUM_DEPLOYMENT_TARGET}; int8 kernels from A17 Pro and M4 on",)
    return Contents(None, operator_rows(_classified(_operations(path))), notes)
