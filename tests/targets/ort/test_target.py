"""ONNX Runtime: export, lower, look inside, load from disk, run, compare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from levit_edge.bundle.files import sha256_file, size_bytes
from levit_edge.errors import InputError
from levit_edge.pipeline.verify import sqnr_db
from targets.ort import OPSET
from targets.ort.target import TARGET
from targets.target import INPUT_NAME, OUTPUT_NAME
from tests.programs import ATTENTIONS, CONVS, FULL, HARDSWISHES, LINEARS, micro, quantized, run
from tests.targets.conftest import Written
from tests.targets.models import (
    DAMAGE,
    FLOAT_TOLERANCE,
    INTEGER_SQNR_DB,
    kinds,
    logits,
    same_for_any_strides,
    vanishing_weights,
)

_BETWEEN_INTEGERS = HARDSWISHES - ATTENTIONS  # the others follow the attention's second product, which is float

ort = TARGET.backend


def test_every_layer_is_an_integer_kernel(written: Written) -> None:
    contents = ort.contents(written("onnx", FULL.name))
    found = kinds(contents, "int8")
    assert found["QGemm"] == LINEARS and found["QLinearConv"] == CONVS
    assert found["QLinearMul"] == _BETWEEN_INTEGERS and found["QLinearAdd"] == _BETWEEN_INTEGERS
    assert not {"Gemm", "Conv", "MatMul"} & set(kinds(contents, "float"))
    assert contents.delegates is None and contents.fallback_ops is None


def test_conversions_stand_only_where_float_meets_integers(written: Written) -> None:
    moves = kinds(ort.contents(written("onnx", FULL.name)), "move")
    residuals = 4
    # Into integers: the image, what each attention computed, and each sum of the residual stream for its readers.
    assert moves["QuantizeLinear"] <= 1 + ATTENTIONS + 2 * residuals + 1
    # Out of integers: the first residual, and the attention bias of each head.
    assert moves["DequantizeLinear"] <= 1 + ATTENTIONS + residuals


def test_the_float_model_has_no_integers(written: Written) -> None:
    contents = ort.contents(written("onnx", "fp32"))
    assert contents.count("int8") == 0
    floats = kinds(contents, "float")
    assert (floats["Gemm"], floats["Conv"], floats["Softmax"]) == (LINEARS, CONVS, ATTENTIONS)


@pytest.mark.parametrize("recipe", ["fp32", "int8"])
def test_the_file_says_what_a_reader_needs_and_no_more(recipe: str, written: Written) -> None:
    model = onnx.load(written("onnx", recipe))
    onnx.checker.check_model(model, full_check=True)
    assert [entry.name for entry in model.graph.input] == [INPUT_NAME]
    assert [entry.name for entry in model.graph.output] == [OUTPUT_NAME]
    shapes = [[d.dim_value for d in e.type.tensor_type.shape.dim] for e in (*model.graph.input, *model.graph.output)]
    assert shapes == [[1, 3, 64, 64], [1, 3]]
    assert [(entry.domain, entry.version) for entry in model.opset_import if entry.domain == ""] == [("", OPSET)]
    data = written("onnx", recipe).read_bytes()
    assert b"stack_trace" not in data and b"/quantize/" not in data and b".py" not in data


def test_float_from_disk_is_the_float_program(written: Written) -> None:
    found = logits(ort.load(written("onnx", "fp32"), 1))
    assert np.abs(found - micro().logits).max() <= FLOAT_TOLERANCE


def test_int8_from_disk_is_the_quantized_program(written: Written) -> None:
    runner = ort.load(written("onnx", FULL.name), 1)
    assert (runner.runtime, runner.executed) == ("onnxruntime-cpu", True)
    found = logits(runner)
    assert sqnr_db(run(quantized("onnx"), micro().images), found) >= INTEGER_SQNR_DB
    assert sqnr_db(micro().logits, found) >= INTEGER_SQNR_DB
    assert size_bytes(written("onnx", FULL.name)) < size_bytes(written("onnx", "fp32"))


@pytest.mark.parametrize("recipe", ["fp32", "int8"])
def test_lowering_twice_gives_the_same_bytes(recipe: str, written: Written, tmp_path: Path) -> None:
    ort.lower(quantized("onnx", recipe), tmp_path / "again.onnx", False)
    assert sha256_file(tmp_path / "again.onnx") == sha256_file(written("onnx", recipe))


def test_an_image_may_have_any_strides(written: Written) -> None:
    assert same_for_any_strides(ort.load(written("onnx", "fp32"), 1))


def test_the_threads_reach_the_runtime(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    seen = []
    session = onnxruntime.InferenceSession

    def recording(path: str, options: onnxruntime.SessionOptions, providers: list[str]) -> onnxruntime.InferenceSession:
        seen.append((options.intra_op_num_threads, options.inter_op_num_threads, providers))
        return session(path, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", recording)
    for threads in (2, 1):
        ort.load(written("onnx", "fp32"), threads)
    assert seen == [(2, 1, ["CPUExecutionProvider"]), (1, 1, ["CPUExecutionProvider"])]


@pytest.mark.parametrize("kind", [*DAMAGE, "absent"])
def test_a_damaged_or_absent_file_is_one_line(kind: str, written: Written, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    if kind in DAMAGE:
        path.write_bytes(DAMAGE[kind](written("onnx", "fp32").read_bytes()))
    for read in (lambda path: ort.load(path, 1), ort.contents):
        with pytest.raises(InputError, match=r"model\.onnx is not a model that ONNX Runtime can load: .") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_vanishing_weights_keep_their_bias(tmp_path: Path) -> None:
    assert sqnr_db(*vanishing_weights("onnx", tmp_path / "model.onnx")) >= INTEGER_SQNR_DB
