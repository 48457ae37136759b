"""Packages that are refused when they are loaded, in one line: damaged ones, and ones that hold anything unknown."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools
import numpy as np
import pytest
from coremltools.converters.mil import Builder
from coremltools.proto import MIL_pb2

from levit_edge.errors import InputError
from targets.coreml import mil
from targets.coreml.mil.catalogue import OPERATORS
from tests.programs import FULL
from tests.targets.conftest import Written
from tests.targets.coreml.mil.faults import bound, edited, find, outputs, read, specification, weight_file
from tests.targets.coreml.mil.packages import write
from tests.targets.models import DAMAGE


@pytest.fixture
def package(written: Written, tmp_path: Path) -> Path:
    """A copy of the micro LeViT's int8 package, to be changed."""
    return Path(shutil.copytree(written("coreml", FULL.name), tmp_path / "model.mlpackage"))


def _refusal(package: Path) -> str:
    """The one line that loading gives."""
    with pytest.raises(InputError) as caught:
        mil.load(package)
    text = str(caught.value)
    assert text.startswith(str(package)) and "\n" not in text
    return text.removeprefix(str(package))


def test_an_unknown_operator_is_named_with_all_that_are_known(package: Path) -> None:
    output = outputs(package, "softmax")[1]
    with edited(package) as program:
        find(program.operations, output).type = "cumsum"
    text = _refusal(package)
    assert text.startswith(f": operator cumsum (output {output}) is not one that is known; known: add, avg_pool, ")
    assert all(name in text for name in OPERATORS)


def test_an_unknown_argument_is_named(package: Path) -> None:
    output = outputs(package, "softmax")[0]
    with edited(package) as program:
        operation = find(program.operations, output)
        operation.inputs["temperature"].CopyFrom(operation.inputs["axis"])
    expected = f": operator softmax (output {output}) has an unknown argument 'temperature'; known: axis, x"
    assert _refusal(package) == expected


def _word(program: Any, operation: Any, argument: str, word: str) -> None:
    value = find(program.operations, bound(operation, argument)).attributes["val"]
    value.immediateValue.tensor.strings.values[0] = word


@pytest.mark.parametrize(
    ("kind", "argument", "word", "valid"),
    [
        ("conv", "pad_type", "circular", "custom, valid"),
        ("quantize", "output_dtype", "int4", "int8, uint8"),
        ("cast", "dtype", "fp64", "bool, fp16, fp32, int16, int32, int8, uint16, uint8"),
    ],
)
def test_an_unknown_mode_is_named(kind: str, argument: str, word: str, valid: str, package: Path) -> None:
    output = outputs(package, kind)[0]
    with edited(package) as program:
        _word(program, find(program.operations, output), argument, word)
    assert _refusal(package) == f": operator {kind} (output {output}) has {argument} {word!r}; known: {valid}"


@pytest.mark.parametrize("kind", ["gather", "clip", "erf", "tile", "constexpr_blockwise_shift_scale"])
def test_an_operator_that_no_network_contains_is_as_unknown_as_any(kind: str, package: Path) -> None:
    output = outputs(package, "softmax")[0]
    with edited(package) as program:
        find(program.operations, output).type = kind
    assert _refusal(package).startswith(f": operator {kind} (output {output}) is not one that is known; known: ")


def test_an_operator_that_cannot_be_computed_is_refused_before_any_image(package: Path) -> None:
    output = outputs(package, "conv")[0]
    with edited(package) as program:
        del find(program.operations, output).inputs["pad"]
    expected = "cannot be computed: custom padding needs two numbers for each spatial axis"
    assert _refusal(package) == f": operator conv (output {output}) {expected}"


@pytest.mark.parametrize("dtype", ["FLOAT64", "INT4"])
def test_an_unknown_type_is_named(dtype: str, package: Path) -> None:
    output = outputs(package, "add")[0]
    with edited(package) as program:
        tensor = find(program.operations, output).outputs[0].type.tensorType
        tensor.dataType = MIL_pb2.DataType.Value(dtype)
    text = _refusal(package)
    assert text.startswith(f": operator add (output {output}): {output} is of type {dtype.lower()}; known: bool, fp16")


def test_another_shape_or_type_than_declared_is_refused(package: Path) -> None:
    first, second = outputs(package, "linear")[:2]
    with edited(package) as program:
        find(program.operations, first).outputs[0].type.tensorType.dimensions[0].constant.size += 1
    assert f"operator linear (output {first}) declares [17, 32] of fp16 and computes [16, 32]" in _refusal(package)
    with edited(package) as program:
        find(program.operations, first).outputs[0].type.tensorType.dimensions[0].constant.size -= 1
        find(program.operations, second).outputs[0].type.tensorType.dataType = MIL_pb2.DataType.INT32
    assert _refusal(package).endswith("of int32 and computes [16, 32] of torch.float32")


def test_a_computed_attribute_is_refused(package: Path) -> None:
    output = outputs(package, "softmax")[0]
    with edited(package) as program:
        operation = find(program.operations, output)
        operation.inputs["axis"].arguments[0].name = bound(operation, "x")
    expected = f": operator softmax (output {output}) has a computed axis; only a constant one is known"
    assert _refusal(package) == expected


def test_an_argument_without_a_value_is_named(package: Path) -> None:
    output = outputs(package, "softmax")[0]
    with edited(package) as program:
        del find(program.operations, output).inputs["axis"].arguments[:]
    assert _refusal(package) == f" is damaged: operator softmax (output {output}) has 0 values for the argument axis"


def test_a_tensor_that_no_operator_writes_is_named(package: Path) -> None:
    output = outputs(package, "softmax")[0]
    with edited(package) as program:
        find(program.operations, output).inputs["x"].arguments[0].name = "nowhere"
    expected = f" is damaged: operator softmax (output {output}) reads 'nowhere', which nothing before it writes"
    assert _refusal(package) == expected


def test_two_tensors_of_one_name_are_refused(package: Path) -> None:
    first, second = outputs(package, "softmax")[:2]
    with edited(package) as program:
        find(program.operations, second).outputs[0].name = first
    assert _refusal(package) == f" is damaged: two operators write {first}"


def _edit(package: Path, change: Callable[[Any], None]) -> None:
    model = read(package)
    change(model)
    specification(package).write_bytes(model.SerializeToString())


def test_other_versions_and_programs_are_refused(package: Path) -> None:
    _edit(package, lambda model: setattr(model, "specificationVersion", 7))
    assert _refusal(package) == ": specification version 7 is not known; known: 8 (iOS17)"
    _edit(package, lambda model: (setattr(model, "specificationVersion", 8), model.neuralNetwork.SetInParent()))
    assert _refusal(package) == " is not a Core ML package with an ML program called main"


@pytest.mark.parametrize("end", ["inputs", "outputs"])
def test_more_than_one_input_or_output_is_refused(end: str, package: Path) -> None:
    def change(model: Any) -> None:
        function = model.mlProgram.functions["main"]
        if end == "inputs":
            function.inputs.add().CopyFrom(function.inputs[0])
        else:
            function.block_specializations[function.opset].outputs.append("image")

    _edit(package, change)
    assert f"the program has 2 {end}; one" in _refusal(package)


def test_a_batch_of_two_is_refused(tmp_path: Path) -> None:
    package = write(tmp_path / "two.mlpackage", lambda image: Builder.relu(x=image), shape=(2, 3))
    assert _refusal(package) == ": input image is fp32 [2, 3], not floats of batch 1"


def test_a_name_of_several_lines_is_still_one_line(package: Path) -> None:
    output = outputs(package, "softmax")[0]
    with edited(package) as program:
        find(program.operations, output).outputs[0].name = "two\nlines"
    assert _refusal(package) == " is damaged: it has an operator or a tensor called 'two\\nlines'"


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_specification_is_one_line(kind: str, package: Path) -> None:
    specification(package).write_bytes(DAMAGE[kind](specification(package).read_bytes()))
    assert "is not a Core ML package" in _refusal(package) or "is damaged" in _refusal(package)


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_weight_file_is_one_line(kind: str, package: Path) -> None:
    weight_file(package).write_bytes(DAMAGE[kind](weight_file(package).read_bytes()))
    assert "is damaged: constant" in _refusal(package)


def test_an_absent_weight_file_is_one_line(package: Path) -> None:
    weight_file(package).unlink()
    assert "is damaged: constant" in _refusal(package)


def test_an_absent_package_is_one_line(tmp_path: Path) -> None:
    assert " is not a Core ML package: " in _refusal(tmp_path / "model.mlpackage")


def test_a_neural_network_is_refused(tmp_path: Path) -> None:
    from coremltools.models import datatypes
    from coremltools.models.neural_network import NeuralNetworkBuilder

    builder = NeuralNetworkBuilder([("image", datatypes.Array(3))], [("logits", datatypes.Array(3))])
    builder.add_activation("relu", "RELU", "image", "logits")
    path = tmp_path / "old.mlmodel"
    coremltools.utils.save_spec(builder.spec, str(path))
    assert _refusal(path) == " is not a Core ML package with an ML program called main"


def test_the_records_are_those_of_the_package(package: Path) -> None:
    program = mil.load(package)
    assert (program.input.name, program.input.shape) == ("image", (1, 3, 64, 64))
    assert (program.output.name, program.output.shape) == ("logits", (1, 3))
    assert [op.output_names[0] for op in program.operations if op.type == "linear"] == outputs(package, "linear")
    by_name = {name: operation for operation in program.operations for name in operation.output_names}
    first = by_name[outputs(package, "quantize")[0]]
    assert first.quantization is not None and first.quantization.dtype == "uint8"
    assert first.input_names[0] in by_name and set(first.inputs) == {"input", "scale", "zero_point"}
    moved = [op for op in program.operations if op.type == "reshape" and op.outputs[0].dtype == "uint8"]
    assert moved and all(op.quantization is by_name[op.input_names[0]].quantization for op in moved)
    floats = [op for op in program.operations if op.type in ("linear", "softmax", "dequantize")]
    assert floats and all(op.quantization is None for op in floats)
    assert first.quantization.real(np.array([255.0], np.float32)) == pytest.approx(
        float(first.quantization.scale) * (255 - int(first.quantization.zero_point))
    )
