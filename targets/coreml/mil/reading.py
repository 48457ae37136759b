"""A ``.mlpackage`` from disk to records: the specification and the weight file, never the converter's own program.

What is not known is refused here, by name, before any image has been seen: operators, their arguments, modes, types.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from levit_edge.errors import InputError
from targets.coreml.mil.catalogue import OPERATORS
from targets.coreml.mil.operator import Operator
from targets.coreml.mil.records import DTYPES, FLOATS, Constant, Operation, Quantization, Source, Value

WEIGHTS_FOLDER = Path("Data", "com.apple.CoreML", "weights")
KNOWN_SPECIFICATIONS = {8: "iOS17", 9: "iOS18"}  # before, operators had other semantics

_TYPE_NAMES = {"FLOAT16": "fp16", "FLOAT32": "fp32", "BOOL": "bool", "STRING": "string"}
_MOVES = ("reshape", "transpose", "expand_dims", "squeeze", "slice_by_index", "slice_by_size", "identity", "flatten2d")


def read(package: Path) -> Source:
    """The program called ``main`` in a package for iOS 17 or later, with one input of batch 1 and one output.

    Raises InputError, in one line, for a package that cannot be read or that the interpreter does not know whole.
    """
    function = _function(package)
    if len(function.inputs) != 1:
        raise InputError(f"{package}: the program has {len(function.inputs)} inputs; one image is what is known")
    block = function.block_specializations[function.opset]
    if len(block.outputs) != 1:
        raise InputError(f"{package}: the program has {len(block.outputs)} outputs; one, the logits, is known")
    reader = _Reader.of(package)
    reader.value(function.inputs[0], "input")
    image = reader.values[function.inputs[0].name]
    if image.dtype not in FLOATS or image.shape[:1] != (1,):
        raise InputError(f"{package}: input {image.name} is {image.dtype} {list(image.shape)}, not floats of batch 1")
    operations = tuple(reader.operations(block.operations))
    if block.outputs[0] not in reader.values:
        raise InputError(f"{package} is damaged: no operator writes its output {block.outputs[0]}")
    return Source(package, image, reader.values[block.outputs[0]], operations, reader.constants)


def _function(package: Path) -> Any:
    import coremltools

    try:
        spec = coremltools.utils.load_spec(str(package))
    except Exception as error:  # noqa: BLE001  # protobuf and file errors alike
        raise InputError(f"{package} is not a Core ML package: {reason(error)}") from None
    if spec.WhichOneof("Type") != "mlProgram" or "main" not in spec.mlProgram.functions:
        raise InputError(f"{package} is not a Core ML package with an ML program called main")
    if spec.specificationVersion not in KNOWN_SPECIFICATIONS:
        known = ", ".join(f"{number} ({name})" for number, name in KNOWN_SPECIFICATIONS.items())
        raise InputError(f"{package}: specification version {spec.specificationVersion} is not known; known: {known}")
    function = spec.mlProgram.functions["main"]
    if function.opset not in function.block_specializations:
        raise InputError(f"{package} is damaged: its program has no block for its opset {function.opset!r}")
    return function


def reason(error: Exception) -> str:
    """The first line of what the error says, or its class."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _type_name(number: int) -> str:
    from coremltools.proto import MIL_pb2

    kinds = MIL_pb2.DataType.DESCRIPTOR.values_by_number
    name: str = kinds[number].name if number in kinds else f"type {number}"
    return _TYPE_NAMES.get(name, name.lower())


def _plain(stored: Any) -> Any:
    """A Python number, list, bool or string."""
    return stored.tolist() if isinstance(stored, np.generic | np.ndarray) else stored


def _bindings(specification: Any) -> dict[str, list[Any]]:
    """What is bound to each argument of an operator: names of tensors, or values written out in place.

    Operators with only constant arguments (``constexpr_...``) have them among the attributes.
    """
    bindings: dict[str, list[Any]] = {
        argument: [item.value if item.WhichOneof("binding") == "value" else item.name for item in bound.arguments]
        for argument, bound in specification.inputs.items()
    }
    return bindings | {name: [value] for name, value in specification.attributes.items() if name != "name"}


def known(names: Any) -> str:
    """The valid values for a message."""
    return ", ".join(sorted(str(name) for name in names))


@dataclass
class _Reader:
    """Reads one block in order. So far: ``values``, the types of what operators write; the stored tensors and words."""

    package: Path
    context: Any
    values: dict[str, Value] = field(default_factory=dict)
    constants: dict[str, Constant] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    quantizations: dict[str, Quantization] = field(default_factory=dict)

    @staticmethod
    def of(package: Path) -> _Reader:
        """A reader of the package's constants; they are looked up in its weight file."""
        from coremltools.converters.mil.frontend.milproto.load import TranscriptionContext

        return _Reader(package, TranscriptionContext(str(package / WEIGHTS_FOLDER)))

    def operations(self, specifications: Any) -> Iterator[Operation]:
        """Every operator but the constants, which go to ``constants`` and ``words``."""
        for specification in specifications:
            names = [output.name for output in specification.outputs]
            for word in (specification.type, *names):
                if not word.isprintable():
                    raise InputError(f"{self.package} is damaged: it has an operator or a tensor called {word!r}")
            name = ", ".join(names)
            where = f"operator {specification.type} (output {name})"
            try:
                if specification.type == "const":
                    self._store(name, specification.attributes["val"])
                else:
                    yield self._operation(specification, where)
            except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
                raise InputError(f"{self.package} is damaged: {where} cannot be read: {reason(error)}") from None

    def value(self, specification: Any, where: str) -> Value:
        """The type of a tensor, noted under its name; InputError for one that is unknown or not of a fixed size."""
        tensor = specification.type.tensorType
        dtype = _type_name(tensor.dataType)
        if dtype not in DTYPES:
            raise InputError(f"{self.package}: {where} {specification.name} is of type {dtype}; known: {known(DTYPES)}")
        if any(dimension.WhichOneof("dimension") != "constant" for dimension in tensor.dimensions):
            raise InputError(
                f"{self.package}: {where} {specification.name} has no fixed shape, which is all that is known"
            )
        if specification.name in self.values or specification.name in self.constants:
            raise InputError(f"{self.package} is damaged: two operators write {specification.name}")
        shape = tuple(int(dimension.constant.size) for dimension in tensor.dimensions)
        self.values[specification.name] = Value(specification.name, dtype, shape)
        return self.values[specification.name]

    def _store(self, name: str, stored: Any) -> None:
        """Keep a value that is written in the specification or in the weight file."""
        value = self._load(stored, name)
        if isinstance(value, str):
            self.words[name] = value
            return
        dtype = _type_name(stored.type.tensorType.dataType)
        if dtype not in DTYPES:
            raise InputError(f"{self.package}: constant {name} is of type {dtype}; known: {known(DTYPES)}")
        self.constants[name] = Constant(dtype, np.asarray(value))

    def _load(self, stored: Any, name: str) -> Any:
        from coremltools.converters.mil.frontend.milproto.load import _load_value

        try:
            return _load_value(self.context, stored)
        except Exception as error:  # noqa: BLE001  # the blob reader and the decoder raise what they like
            raise InputError(f"{self.package} is damaged: constant {name} cannot be read: {reason(error)}") from None

    def _operation(self, specification: Any, where: str) -> Operation:
        operator = OPERATORS.get(specification.type)
        if operator is None:
            raise InputError(f"{self.package}: {where} is not one that is known; known: {known(OPERATORS)}")
        bindings = _bindings(specification)
        for argument in bindings:
            if argument not in operator.arguments:
                valid = known(operator.arguments)
                raise InputError(f"{self.package}: {where} has an unknown argument {argument!r}; known: {valid}")
            if not bindings[argument] or (len(bindings[argument]) > 1 and not operator.variadic):
                raise InputError(f"{self.package} is damaged: {where} has {len(bindings[argument])} {argument}")
        inputs = {
            argument: self._names(bindings[argument], f"{specification.outputs[0].name}/{argument}", where)
            for argument in operator.tensors
            if argument in bindings
        }
        attributes = {
            argument: self._attribute(bound, argument, where, operator)
            for argument, bound in bindings.items()
            if argument not in operator.tensors
        }
        outputs = tuple(self.value(output, f"{where}:") for output in specification.outputs)
        quantization = self._quantization(specification.type, inputs, attributes)
        if quantization is not None:
            self.quantizations[outputs[0].name] = quantization
        return Operation(specification.type, outputs, inputs, attributes, quantization)

    def _names(self, bound: list[Any], own_name: str, where: str) -> tuple[str, ...]:
        """The tensors bound to an argument; one that is written out in place becomes a constant with its own name."""
        names = []
        for index, item in enumerate(bound):
            name = item if isinstance(item, str) else f"{own_name}/{index}"
            if not isinstance(item, str):
                self._store(name, item)
            if name not in self.values and name not in self.constants:
                raise InputError(f"{self.package} is damaged: {where} reads {name!r}, which nothing before it writes")
            names.append(name)
        return tuple(names)

    def _attribute(self, bound: list[Any], argument: str, where: str, operator: Operator) -> Any:
        (item,) = bound
        value: Any
        if not isinstance(item, str):
            value = _plain(self._load(item, argument))
        elif item in self.words:
            value = self.words[item]
        elif item in self.constants:
            value = self.constants[item].values.tolist()
        else:
            raise InputError(f"{self.package}: {where} has a computed {argument}, only a constant one is known")
        valid = operator.allowed.get(argument)
        if valid is not None and value not in valid:
            raise InputError(f"{self.package}: {where} has {argument} {value!r}; known: {known(valid)}")
        return value

    def _quantization(
        self, kind: str, inputs: Mapping[str, tuple[str, ...]], attributes: Mapping[str, Any]
    ) -> Quantization | None:
        if kind == "quantize":
            return self._stated(inputs, attributes)
        before = self.quantizations.get(inputs["x"][0]) if kind in _MOVES and "x" in inputs else None
        return before if before is not None and before.axis is None else None

    def _stated(self, inputs: Mapping[str, tuple[str, ...]], attributes: Mapping[str, Any]) -> Quantization | None:
        scale = self.constants.get(inputs["scale"][0]) if "scale" in inputs else None
        if scale is None:
            return None  # the check of the whole program names what is missing
        stored = (
            self.constants[inputs["zero_point"][0]].values if "zero_point" in inputs else np.zeros_like(scale.values)
        )
        values = scale.values.astype(np.float32)
        return Quantization(values, stored.astype(np.int32), attributes["output_dtype"], attributes.get("axis"))
