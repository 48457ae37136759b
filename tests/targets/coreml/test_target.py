"""Core ML: convert a program, read the package back, run it and compare it with the program."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools
import pytest
from coremltools.converters.mil import Builder
from coremltools.proto import Model_pb2

from levit_edge.bundle.files import sha256_path, size_bytes
from levit_edge.errors import InputError
from levit_edge.metrics.sqnr import sqnr_db
from targets.coreml.run import ReferenceRunner
from targets.coreml.target import TARGET
from tests.programs import ATTENTIONS, CONVS, FULL, LINEARS, PLANS, micro, quantized, run
from tests.targets.conftest import Written
from tests.targets.models import (
    DAMAGE,
    INTEGER_SQNR_DB,
    kinds,
    logits,
    same_for_any_strides,
)

ALL = ("int8", "w8a16", "fp16", "fp32")
IOS17_SPECIFICATION = 8
# Against the torch program: float16 scales, biases and activations cost the difference.
REFERENCE_DB = {"int8": 30.0, "w8a16": 50.0, "fp16": 50.0, "fp32": 100.0}
BATCH_DB = 60.0

mlprogram = TARGET.backend


def _spec(path: Path) -> Any:
    return coremltools.utils.load_spec(str(path))


def _constants(path: Path) -> int:
    """Number of weights that are stored as int8."""
    function = _spec(path).mlProgram.functions["main"]
    operations = function.block_specializations[function.opset].operations
    return sum(op.type == "constexpr_affine_dequantize" for op in operations)


def test_every_layer_stands_between_integers(written: Written) -> None:
    contents = mlprogram.contents(written("coreml", FULL.name))
    found = kinds(contents, "int8")
    assert (found["conv"], found["linear"]) == (CONVS, LINEARS)
    floats = kinds(contents, "float")
    assert not {"conv", "linear"} & set(floats)
    assert (floats["matmul"], floats["softmax"]) == (2 * ATTENTIONS, ATTENTIONS)
    assert contents.delegates is None and contents.fallback_ops is None
    assert "iOS17" in contents.notes[0]


@pytest.mark.parametrize("recipe", ["w8a16", "fp16", "fp32"])
def test_elsewhere_every_operator_is_float(recipe: str, written: Written) -> None:
    contents = mlprogram.contents(written("coreml", recipe))
    floats = kinds(contents, "float")
    assert contents.count("int8") == 0
    assert (floats["conv"], floats["linear"], floats["matmul"]) == (CONVS, LINEARS, 2 * ATTENTIONS)
    assert not {"quantize", "dequantize"} & set(kinds(contents, "move"))


@pytest.mark.parametrize("recipe", ALL)
def test_weights_are_stored_as_the_recipe_says(recipe: str, written: Written) -> None:
    expected = CONVS + LINEARS + ATTENTIONS if PLANS[recipe].weights == "int8" else 0
    expected -= 3 if recipe == "int8" else 0  # the first two layers and the head
    assert _constants(written("coreml", recipe)) == expected


@pytest.mark.parametrize("recipe", ALL)
def test_the_package_is_for_ios_17_with_float32_at_its_ends(recipe: str, written: Written) -> None:
    spec = _spec(written("coreml", recipe))
    assert spec.specificationVersion == IOS17_SPECIFICATION
    (image,), (logits_,) = spec.description.input, spec.description.output
    array = coremltools.proto.FeatureTypes_pb2.ArrayFeatureType
    assert (image.name, list(image.type.multiArrayType.shape)) == ("image", [1, 3, 64, 64])
    assert logits_.name == "logits"
    assert {image.type.multiArrayType.dataType, logits_.type.multiArrayType.dataType} == {array.FLOAT32}


def test_sixteen_bits_are_half_and_eight_a_quarter(written: Written) -> None:
    sizes = {recipe: size_bytes(written("coreml", recipe) / "Data" / "com.apple.CoreML" / "weights") for recipe in ALL}
    assert sizes["fp16"] / sizes["fp32"] == pytest.approx(0.5, abs=0.05)
    assert sizes["w8a16"] / sizes["fp32"] == pytest.approx(0.25, abs=0.1)
    assert sizes["int8"] / sizes["fp32"] == pytest.approx(0.25, abs=0.1)


@pytest.mark.parametrize("recipe", ALL)
def test_the_reference_from_disk_is_the_program(recipe: str, written: Written) -> None:
    runner = ReferenceRunner(written("coreml", recipe))
    assert (runner.runtime, runner.executed) == ("mil-reference", False)
    found = logits(runner)
    assert sqnr_db(run(quantized("coreml", recipe), micro().images), found) >= REFERENCE_DB[recipe]
    assert sqnr_db(micro().logits, found) >= INTEGER_SQNR_DB
    assert sqnr_db(found, runner.batch(micro().images.numpy())) >= BATCH_DB


@pytest.mark.macos
@pytest.mark.parametrize("recipe", ALL)
def test_core_ml_computes_what_the_reference_does(recipe: str, written: Written) -> None:
    runner = mlprogram.load(written("coreml", recipe), 1)
    assert runner.executed and runner.runtime.startswith("coreml-macos-")
    expected = logits(ReferenceRunner(written("coreml", recipe)))
    assert sqnr_db(expected, logits(runner)) >= REFERENCE_DB[recipe]


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML itself is there")
def test_elsewhere_the_reference_is_what_is_loaded(written: Written) -> None:
    assert isinstance(mlprogram.load(written("coreml", "fp32"), 1), ReferenceRunner)


@pytest.mark.parametrize("recipe", [pytest.param("int8", marks=pytest.mark.slow), "fp32"])
def test_converting_twice_gives_the_same_bytes(recipe: str, written: Written, tmp_path: Path) -> None:
    expected = sha256_path(written("coreml", recipe))
    path = tmp_path / "model.mlpackage"
    Builder.name_count["transpose"] += 7  # as after another program in the same process
    mlprogram.lower(quantized("coreml", recipe), path, PLANS[recipe].half)
    assert sha256_path(path) == expected
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_nothing_in_the_package_says_when_it_was_made(written: Written) -> None:
    (specification,) = written("coreml", "fp32").rglob("*.mlmodel")
    model = Model_pb2.Model()
    model.ParseFromString(specification.read_bytes())
    keys = list(model.description.metadata.userDefined)
    assert any(key.endswith(".version") for key in keys) and not any("date" in key for key in keys)


def test_the_identifiers_of_the_manifest_come_from_its_paths(written: Written) -> None:
    manifests = [json.loads((written("coreml", r) / "Manifest.json").read_text()) for r in ("fp16", "fp32")]
    assert manifests[0] == manifests[1]
    items = manifests[0]["itemInfoEntries"]
    assert manifests[0]["rootModelIdentifier"] in items and list(items) == sorted(items)
    assert sorted(entry["path"] for entry in items.values()) == [
        "com.apple.CoreML/model.mlmodel",
        "com.apple.CoreML/weights",
    ]


def test_an_image_may_have_any_strides(written: Written) -> None:
    assert same_for_any_strides(ReferenceRunner(written("coreml", "fp32")))


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("read", [mlprogram.contents, ReferenceRunner])
def test_a_damaged_package_is_one_line(
    kind: str, read: Callable[[Path], object], written: Written, tmp_path: Path
) -> None:
    path = tmp_path / "model.mlpackage"
    shutil.copytree(written("coreml", "fp32"), path)
    inner = path / "Data" / "com.apple.CoreML" / "model.mlmodel"
    inner.write_bytes(DAMAGE[kind](inner.read_bytes()))
    with pytest.raises(InputError, match=r"model\.mlpackage is not a Core ML package.") as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [mlprogram.contents, ReferenceRunner])
def test_an_absent_package_is_one_line(read: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.mlpackage is not a Core ML package: .*No such file"):
        read(tmp_path / "model.mlpackage")
