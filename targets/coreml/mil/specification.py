"""The protobuf messages of a ``.mlpackage``: its program, and the Python values of what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from levit_edge.errors import InputError
from levit_edge.wording import first_line

KNOWN_VERSIONS = {8: "iOS17"}  # in other versions, operators of the same name mean something else

_TYPE_NAMES = {"FLOAT16": "fp16", "FLOAT32": "fp32", "BOOL": "bool", "STRING": "string"}


def main_function(package: Path) -> Any:
    """The function ``main`` of a package for iOS 17, with a block for its opset.

    Raises InputError, in one line, for anything else.
    """
    import coremltools

    try:
        model = coremltools.utils.load_spec(str(package))
    except Exception as error:  # noqa: BLE001  # protobuf and file errors alike
        raise InputError(f"{package} is not a Core ML package: {first_line(error)}") from None
    if model.WhichOneof("Type") != "mlProgram" or "main" not in model.mlProgram.functions:
        raise InputError(f"{package} is not a Core ML package with an ML program called main")
    if model.specificationVersion not in KNOWN_VERSIONS:
        known = ", ".join(f"{number} ({name})" for number, name in KNOWN_VERSIONS.items())
        raise InputError(f"{package}: specification version {model.specificationVersion} is not known; known: {known}")
    function = model.mlProgram.functions["main"]
    if function.opset not in function.block_specializations:
        raise InputError(f"{package} is damaged: its program has no block for its opset {function.opset!r}")
    return function


def main_block(function: Any) -> Any:
    """The operators of a function and the names of its outputs: ``.operations``, ``.outputs``."""
    return function.block_specializations[function.opset]


def type_name(number: int) -> str:
    """The MIL name of a data type, such as ``fp16``."""
    from coremltools.proto import MIL_pb2

    kinds = MIL_pb2.DataType.DESCRIPTOR.values_by_number
    name: str = kinds[number].name if number in kinds else f"type {number}"
    return _TYPE_NAMES.get(name, name.lower())


def bindings(operation: Any) -> dict[str, list[Any]]:
    """What is bound to each argument of an operator: names of tensors, or values written in place.

    Operators whose arguments are all constant (``constexpr_...``) store them among the attributes.
    """
    found: dict[str, list[Any]] = {
        argument: [item.value if item.WhichOneof("binding") == "value" else item.name for item in bound.arguments]
        for argument, bound in operation.inputs.items()
    }
    return found | {name: [value] for name, value in operation.attributes.items() if name != "name"}


class StoredValues:
    """Decodes the constants of a package; large ones lie in its weight file."""

    def __init__(self, package: Path) -> None:
        from coremltools.converters.mil.frontend.milproto.load import TranscriptionContext

        self._package = package
        self._context = TranscriptionContext(str(package / "Data" / "com.apple.CoreML" / "weights"))

    def decode(self, stored: Any, name: str) -> Any:
        """A Python string or bool, or a number or an array of numpy; InputError, with ``name``, where it is damaged."""
        from coremltools.converters.mil.frontend.milproto.load import _load_value

        try:
            return _load_value(self._context, stored)
        except Exception as error:  # noqa: BLE001  # the reader of the weight file and the decoder raise what they like
            raise InputError(
                f"{self._package} is damaged: constant {name} cannot be read: {first_line(error)}"
            ) from None

    def decode_plain(self, stored: Any, name: str) -> Any:
        """The same as a Python number, list, bool or string."""
        value = self.decode(stored, name)
        return value.tolist() if isinstance(value, np.generic | np.ndarray) else value
