"""A new target: one record in the registry, and everything that asks the registry knows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from levit_edge.bundle.files import sha256_file
from levit_edge.errors import InputError
from levit_edge.pipeline.verify import sqnr_db
from targets.program import replay
from targets.registry import TARGETS, target
from tests.programs import FULL, micro, quantized, run
from tests.targets.models import INTEGER_SQNR_DB, kinds, logits
from tests.targets.toy import TOY

IMAGE = micro().images[:1].numpy()


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The int8 model file of the toy target, which is registered meanwhile."""
    monkeypatch.setitem(TARGETS, "toy", TOY)
    path = tmp_path / TOY.model_file
    target("toy").backend.lower(quantized("toy"), path, FULL.half)
    return path


def test_it_is_found_by_its_name_and_named_among_the_valid_ones(toy: Path) -> None:
    assert target("toy") is TOY
    with pytest.raises(InputError, match="unknown target 'android'; valid: executorch, coreml, onnx, toy"):
        target("android")


def test_it_runs_the_quantized_program(toy: Path) -> None:
    runner = TOY.backend.load(toy, 1)
    assert (runner.runtime, runner.executed) == ("toy-torch", True)
    found = logits(runner)
    np.testing.assert_array_equal(found, run(quantized("toy"), micro().images))
    assert sqnr_db(micro().logits, found) >= INTEGER_SQNR_DB


def test_its_contents_are_the_operators_of_the_program(toy: Path) -> None:
    found = TOY.backend.contents(toy)
    assert (found.delegates, found.fallback_ops) == (None, None)
    assert kinds(found, "int8")["aten.conv2d"] > 0
    assert found.count("float") > 0
    calls = [node for node in quantized("toy").graph.nodes if node.op == "call_function"]
    assert sum(row.count for row in found.operators) == len(calls)


def test_its_layers_are_those_of_the_program(toy: Path) -> None:
    tap = TOY.backend.tap
    assert tap is not None
    found, expected = tap(toy, IMAGE), replay.tap(quantized("toy"), IMAGE)
    for layer, other in zip(found, expected, strict=True):
        assert (layer.kind, layer.name, layer.affine) == (other.kind, other.name, other.affine)
        np.testing.assert_array_equal(layer.data, other.data)
    np.testing.assert_array_equal(found[-1].values, TOY.backend.load(toy, 1)(IMAGE))


def test_the_same_program_gives_the_same_bytes(toy: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.toy"
    TOY.backend.lower(quantized("toy"), again, False)
    assert sha256_file(again) == sha256_file(toy)


def test_a_damaged_file_is_refused(toy: Path) -> None:
    toy.write_bytes(toy.read_bytes()[:1000])
    for read in (lambda path: TOY.backend.load(path, 1), TOY.backend.contents):
        with pytest.raises(InputError, match=r"model\.toy is not a torch program"):
            read(toy)


def test_versions_are_those_of_what_builds_and_runs_it() -> None:
    assert list(TOY.versions()) == ["torch", "torchao"]
