"""A ``.mlpackage`` from disk to records. It reads the files that a device would, not the converter's own objects.

Operators, arguments, modes and types that the interpreter does not know are refused here by name, before any image is
computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from levit_edge.errors import InputError
from levit_edge.wording import first_line
from targets.coreml.mil.catalogue import OPERATORS
from targets.coreml.mil.operator import Operator
from targets.coreml.mil.records import DTYPES, FLOATS, Constant, Operation, Quantization, Source, Value
from targets.coreml.mil.specification import StoredValues, bindings, main_block, main_function, type_name

_MOVES = ("reshape", "transpose", "expand_dims", "squeeze", "slice_by_index")


def read(package: Path) -> Source:
    """The program called ``main`` of a package for iOS 17, with one input of batch 1 and one output.

    Raises InputError, in one line, for a package that cannot be read or that holds anything unknown.
    """
    function = main_function(package)
    if len(function.inputs) != 1:
        raise InputError(f"{package}: the program has {len(function.inputs)} inputs; one image is expected")
    block = main_block(function)
    if len(block.outputs) != 1:
        raise InputError(f"{package}: the program has {len(block.outputs)} outputs; one, the logits, is expected")
    reader = _Reader(package, StoredValues(package))
    image = reader.value(function.inputs[0], "input")
    if image.dtype not in FLOATS or image.shape[:1] != (1,):
        raise InputError(f"{package}: input {image.name} is {image.dtype} {list(image.shape)}, not floats of batch 1")
    operations = tuple(reader.operations(block.operations))
    if block.outputs[0] not in reader.values:
        raise InputError(f"{package} is damaged: no operator writes its output {block.outputs[0]}")
    return Source(package, image, reader.values[block.outputs[0]], operations, reader.constants)


def _sorted(names: Iterable[object]) -> str:
    """All valid values for a message."""
    return ", ".join(sorted(str(name) for name in names))


@dataclass
class _Reader:
    """Reads one block from its first operator to its last.

    Of the operators read so far, ``values`` has the types of their outputs, ``constants`` the stored tensors, ``words``
    the stored strings, and ``quantizations`` what the integers of an output stand for, all by name.
    """

    package: Path
    stored: StoredValues
    values: dict[str, Value] = field(default_factory=dict)
    constants: dict[str, Constant] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    quantizations: dict[str, Quantization] = field(default_factory=dict)

    def operations(self, specifications: Any) -> Iterator[Operation]:
        """Every operator except the constants, which go to ``constants`` and ``words``."""
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
                raise InputError(f"{self.package} is damaged: {where} cannot be read: {first_line(error)}") from None

    def value(self, specification: Any, where: str) -> Value:
        """Note the type of a tensor under its name; InputError for one that is unknown or whose size is not fixed."""
        tensor = specification.type.tensorType
        dtype = type_name(tensor.dataType)
        if dtype not in DTYPES:
            raise InputError(
                f"{self.package}: {where} {specification.name} is of type {dtype}; known: {_sorted(DTYPES)}"
            )
        if any(dimension.WhichOneof("dimension") != "constant" for dimension in tensor.dimensions):
            raise InputError(f"{self.package}: {where} {specification.name} has no fixed shape, which is required")
        if specification.name in self.values or specification.name in self.constants:
            raise InputError(f"{self.package} is damaged: two operators write {specification.name}")
        shape = tuple(int(dimension.constant.size) for dimension in tensor.dimensions)
        self.values[specification.name] = Value(specification.name, dtype, shape)
        return self.values[specification.name]

    def _store(self, name: str, stored: Any) -> None:
        """Keep a value that is written in the specification or in the weight file."""
        value = self.stored.decode(stored, name)
        if isinstance(value, str):
            self.words[name] = value
            return
        dtype = type_name(stored.type.tensorType.dataType)
        if dtype not in DTYPES:
            raise InputError(f"{self.package}: constant {name} is of type {dtype}; known: {_sorted(DTYPES)}")
        self.constants[name] = Constant(dtype, np.asarray(value))

    def _operation(self, specification: Any, where: str) -> Operation:
        operator = OPERATORS.get(specification.type)
        if operator is None:
            raise InputError(f"{self.package}: {where} is not one that is known; known: {_sorted(OPERATORS)}")
        bound = bindings(specification)
        self._check_arguments(bound, operator, where)
        inputs = {
            argument: self._names(bound[argument], f"{specification.outputs[0].name}/{argument}", where)
            for argument in operator.tensors
            if argument in bound
        }
        attributes = {
            argument: self._attribute(items, argument, where, operator)
            for argument, items in bound.items()
            if argument not in operator.tensors
        }
        outputs = tuple(self.value(output, f"{where}:") for output in specification.outputs)
        quantization = self._quantization(specification.type, inputs, attributes)
        if quantization is not None:
            self.quantizations[outputs[0].name] = quantization
        return Operation(specification.type, outputs, inputs, attributes, quantization)

    def _check_arguments(self, bound: Mapping[str, list[Any]], operator: Operator, where: str) -> None:
        """InputError for an argument that is unknown, or that has no value or too many."""
        for argument, items in bound.items():
            if argument not in operator.arguments:
                valid = _sorted(operator.arguments)
                raise InputError(f"{self.package}: {where} has an unknown argument {argument!r}; known: {valid}")
            if not items or (len(items) > 1 and not operator.variadic):
                raise InputError(
                    f"{self.package} is damaged: {where} has {len(items)} values for the argument {argument}"
                )

    def _names(self, bound: list[Any], own_name: str, where: str) -> tuple[str, ...]:
        """The tensors bound to an argument; a value written in place becomes a constant with a name of its own."""
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
        """The Python value of an argument that is no tensor; InputError where it is computed or not allowed."""
        (item,) = bound
        value: Any
        if not isinstance(item, str):
            value = self.stored.decode_plain(item, argument)
        elif item in self.words:
            value = self.words[item]
        elif item in self.constants:
            value = self.constants[item].values.tolist()
        else:
            raise InputError(f"{self.package}: {where} has a computed {argument}; only a constant one is known")
        valid = operator.allowed.get(argument)
        if valid is not None and value not in valid:
            raise InputError(f"{self.package}: {where} has {argument} {value!r}; known: {_sorted(valid)}")
        return value

    def _quantization(
        self, kind: str, inputs: Mapping[str, tuple[str, ...]], attributes: Mapping[str, Any]
    ) -> Quantization | None:
        """What the integers of an output stand for: set by a quantize, and kept by moves if it has no channel axis."""
        if kind != "quantize":
            before = self.quantizations.get(inputs["x"][0]) if kind in _MOVES and "x" in inputs else None
            return before if before is not None and before.axis is None else None
        scale = self.constants.get(inputs["scale"][0]) if "scale" in inputs else None
        if scale is None:
            return None  # the check of the whole program names what is missing
        values = scale.values.astype(np.float32)
        zero_point = (
            self.constants[inputs["zero_point"][0]].values if "zero_point" in inputs else np.zeros_like(scale.values)
        )
        return Quantization(values, zero_point.astype(np.int32), attributes["output_dtype"], attributes.get("axis"))
