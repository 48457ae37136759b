"""The operators that the interpreter knows are those that coremltools emits, and whole networks of them are torch's."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from levit_edge.metrics.sqnr import sqnr_db
from quantize.flow import trace
from targets.coreml import mil
from targets.coreml.lower import lower
from targets.coreml.mil.catalogue import OPERATORS
from tests.programs import FULL
from tests.targets.conftest import Written
from tests.targets.coreml.mil.networks import NETWORKS

FLOAT_DB, HALF_DB = 100.0, 50.0
# Only quantization and float16 bring these in.
OF_RECIPES = {"quantize", "dequantize", "constexpr_affine_dequantize", "cast"}

Converted = Callable[[str, bool], Path]


def _module(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name].make().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """``converted(network, half)``: its package, converted once."""

    @cache
    def convert(name: str, half: bool) -> Path:
        path = tmp_path_factory.mktemp("network") / "model.mlpackage"
        lower(trace(_module(name), torch.zeros(NETWORKS[name].shape)), path, half)
        return path

    return convert


def _emitted(package: Path) -> set[str]:
    return {operation.type for operation in mil.load(package).operations}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_consists_of_these_operators(name: str, converted: Converted) -> None:
    expected = set(NETWORKS[name].operators.split())
    assert _emitted(converted(name, False)) == expected
    assert _emitted(converted(name, True)) == expected | {"cast"}


def test_every_operator_is_emitted_by_a_network_or_a_recipe(written: Written) -> None:
    by_networks = {word for network in NETWORKS.values() for word in network.operators.split()}
    by_recipes = _emitted(written("coreml", FULL.name))
    assert by_recipes - by_networks == OF_RECIPES
    assert by_networks | OF_RECIPES == set(OPERATORS)


@pytest.mark.parametrize(("half", "least_db"), [(False, FLOAT_DB), (True, HALF_DB)])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_computes_what_torch_does(name: str, half: bool, least_db: float, converted: Converted) -> None:
    shape = NETWORKS[name].shape
    inputs = np.random.default_rng(1).normal(0, 1, (3, *shape[1:])).astype(np.float32)
    expected = np.concatenate([_module(name)(torch.from_numpy(one[None])).numpy() for one in inputs])
    program = mil.load(converted(name, half))
    assert sqnr_db(expected, program.run(inputs)) >= least_db
    assert sqnr_db(expected, np.concatenate([program.run(one[None]) for one in inputs])) >= least_db
