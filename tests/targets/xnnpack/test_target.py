"""ExecuTorch: export, lower, look inside, load from disk, run, compare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from levit_edge.bundle.files import sha256_file, size_bytes
from levit_edge.errors import InputError
from levit_edge.pipeline.verify import sqnr_db
from targets.xnnpack.target import TARGET
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

xnnpack = TARGET.backend


@pytest.mark.parametrize("recipe", ["fp32", "int8"])
def test_one_delegate_takes_the_whole_program(recipe: str, written: Written) -> None:
    contents = xnnpack.contents(written("executorch", recipe))
    assert contents.delegates == 1 and contents.fallback_ops == 0
    assert all(row.placement == "delegate" for row in contents.operators)


def test_every_layer_is_an_integer_kernel(written: Written) -> None:
    contents = xnnpack.contents(written("executorch", FULL.name))
    assert kinds(contents, "int8") == {"XNNConv2d": CONVS, "XNNFullyConnected": LINEARS}
    floats = kinds(contents, "float")
    assert floats["XNNHardswish"] == HARDSWISHES and floats["XNNSoftmax"] == ATTENTIONS
    assert floats["XNNBatchMatrixMultiply"] == 2 * ATTENTIONS and floats["XNNGlobalAvgPooling2d"] == 1
    assert floats["XNNAdd"] == 7 and len(floats) == 5


def test_the_float_program_has_no_integers(written: Written) -> None:
    contents = xnnpack.contents(written("executorch", "fp32"))
    assert contents.count("int8") == 0
    assert kinds(contents, "float")["XNNFullyConnected"] == LINEARS
    assert not [row for row in contents.operators if row.name == "XNNConvert"]


def test_float_from_disk_is_the_float_program(written: Written) -> None:
    found = logits(xnnpack.load(written("executorch", "fp32"), 1))
    assert np.abs(found - micro().logits).max() <= FLOAT_TOLERANCE


def test_int8_from_disk_is_the_quantized_program(written: Written) -> None:
    runner = xnnpack.load(written("executorch", FULL.name), 1)
    assert (runner.runtime, runner.executed) == ("executorch-xnnpack", True)
    found = logits(runner)
    assert sqnr_db(run(quantized("executorch"), micro().images), found) >= INTEGER_SQNR_DB
    assert sqnr_db(micro().logits, found) >= INTEGER_SQNR_DB
    assert size_bytes(written("executorch", FULL.name)) < size_bytes(written("executorch", "fp32"))


@pytest.mark.slow
def test_lowering_twice_gives_the_same_bytes(written: Written, tmp_path: Path) -> None:
    xnnpack.lower(quantized("executorch", "fp32"), tmp_path / "again.pte", False)
    assert sha256_file(tmp_path / "again.pte") == sha256_file(written("executorch", "fp32"))


def test_an_image_may_have_any_strides(written: Written) -> None:
    assert same_for_any_strides(xnnpack.load(written("executorch", "fp32"), 1))


def test_an_answer_survives_the_next_run(written: Written) -> None:
    runner = xnnpack.load(written("executorch", "fp32"), 1)
    first = runner(micro().images[:1].numpy())
    kept = first.copy()
    runner(micro().images[1:2].numpy())
    assert np.array_equal(first, kept)


def test_the_threads_reach_the_runtime(written: Written) -> None:
    from executorch.extension.pybindings import portable_lib

    for threads in (2, 1):
        runner = xnnpack.load(written("executorch", "fp32"), threads)
        assert portable_lib._threadpool_get_thread_count() == threads
        assert np.abs(runner(micro().images[:1].numpy()) - micro().logits[:1]).max() <= FLOAT_TOLERANCE


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_one_line(kind: str, written: Written, tmp_path: Path) -> None:
    path = tmp_path / "model.pte"
    path.write_bytes(DAMAGE[kind](written("executorch", "fp32").read_bytes()))
    with pytest.raises(InputError, match=r"model\.pte is not a program that this ExecuTorch can load: .") as caught:
        xnnpack.load(path, 1)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"model\.pte is not an ExecuTorch program: ."):
        xnnpack.contents(path)


def test_an_absent_file_is_one_line(tmp_path: Path) -> None:
    for read in (lambda path: xnnpack.load(path, 1), xnnpack.contents):
        with pytest.raises(InputError, match=r"model\.pte is not .*No such file"):
            read(tmp_path / "model.pte")


def test_vanishing_weights_keep_their_bias(tmp_path: Path) -> None:
    assert sqnr_db(*vanishing_weights("executorch", tmp_path / "model.pte")) >= INTEGER_SQNR_DB
