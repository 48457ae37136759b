"""The reference model equals transformers' LeViT, through a real save and load, in float32 and float64."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from levit_edge.errors import InputError
from levit_edge.families.labels import numbered_labels
from levit_edge.families.levit.config import VARIANTS, LevitConfig, variant_config
from levit_edge.families.levit.model import Levit, LevitOutput, offset_index, random_model
from levit_edge.families.load import load_checkpoint
from tests.levit_edge.families.levit.levits import ODD_CONFIGS, VARIANTS_AND_HEADS, hf_model, image, tiny_config

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def _difference(ours: LevitOutput, theirs: Any) -> float:
    """Largest absolute difference over everything that the transformers model returns."""
    names = {"pooled": "pooler_output", "distill_logits": "distillation_logits"}
    pairs = [(getattr(ours, name), getattr(theirs, names.get(name, name), None)) for name in LevitOutput._fields]
    compared = [(a, b) for a, b in pairs if b is not None]
    assert compared
    for a, b in compared:
        assert a.shape == b.shape
        assert 0.3 < float(b.abs().max()) < 30  # an absolute tolerance means something only at this scale
    return max(float((a - b).abs().max()) for a, b in compared)


@torch.inference_mode()
def _check_parity(theirs: Any, ours: Levit, pixels: Tensor) -> None:
    for dtype, tolerance in TOLERANCE.items():
        assert _difference(ours.to(dtype)(pixels.to(dtype)), theirs.to(dtype)(pixels.to(dtype))) <= tolerance


@pytest.mark.parametrize(("variant", "heads"), VARIANTS_AND_HEADS)
def test_parity_with_transformers(variant: str, heads: int, tmp_path: Path) -> None:
    config = replace(variant_config(variant, numbered_labels(1000)), drop_path_rate=0)
    theirs = hf_model(config, heads, seed=heads)
    theirs.save_pretrained(tmp_path)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.variant == variant
    assert checkpoint.model.config == (config if heads else config.with_labels(()))
    _check_parity(theirs, checkpoint.model, image(config))


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("name", ODD_CONFIGS)
def test_parity_in_odd_configurations(name: str, heads: int, tmp_path: Path) -> None:
    config = replace(tiny_config(), **ODD_CONFIGS[name])
    theirs = hf_model(config, heads)
    theirs.save_pretrained(tmp_path)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.model.config == config
    _check_parity(theirs, checkpoint.model, image(config, batch=3))


def test_one_head_returns_no_separate_logits() -> None:
    config = tiny_config()
    output = random_model(config, heads=1)(image(config))
    assert output.logits.shape == (1, 3)
    assert output.cls_logits is None
    assert output.distill_logits is None


def test_two_heads_are_averaged() -> None:
    config = tiny_config()
    output = random_model(config)(image(config, batch=2))
    assert torch.equal(output.logits, (output.cls_logits + output.distill_logits) / 2)


def test_backbone_returns_features_only() -> None:
    config = tiny_config(labels=())
    output = random_model(config, heads=0)(image(config, batch=2))
    assert output.last_hidden_state.shape == (2, 1, 64)
    assert output.pooled.shape == (2, 64)
    assert output.logits is None


def test_batching_does_not_change_a_result() -> None:
    config = tiny_config()
    model, pixels = random_model(config).double(), image(config, batch=3).double()
    alone = torch.cat([model(pixels[index : index + 1]).logits for index in range(3)])
    assert (model(pixels).logits - alone).abs().max() < 1e-12


def test_heads_need_labels() -> None:
    with pytest.raises(InputError, match="2 heads need labels; the config has none"):
        Levit(tiny_config(labels=()))


def test_training_mode_is_refused() -> None:
    model = random_model(tiny_config())
    with pytest.raises(RuntimeError, match="stays in eval mode"):
        model.train()
    assert not model.eval().training


def test_random_model_depends_on_the_seed_only() -> None:
    config = tiny_config()
    same, other = random_model(config, seed=1).state_dict(), random_model(config, seed=2).state_dict()
    torch.manual_seed(99)
    again = random_model(config, seed=1).state_dict()
    assert all(torch.equal(same[key], again[key]) for key in same)
    assert not torch.equal(same["stem.0.conv.weight"], other["stem.0.conv.weight"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_random_model_gives_logits_of_order_one(variant: str) -> None:
    config = variant_config(variant, numbered_labels(100))
    with torch.inference_mode():
        logits = random_model(config)(image(config)).logits
    assert 0.5 < float(logits.abs().max()) < 10


def _first_occurrences(side_out: int, side_in: int, stride: int) -> list[list[int]]:
    """Number each (|dy|, |dx|) when it is first met, queries then keys, row by row."""
    numbers: dict[tuple[int, int], int] = {}
    queries, keys = product(range(side_out), repeat=2), list(product(range(side_in), repeat=2))
    return [
        [numbers.setdefault((abs(qy * stride - ky), abs(qx * stride - kx)), len(numbers)) for ky, kx in keys]
        for qy, qx in queries
    ]


@settings(max_examples=60, deadline=None)
@given(side_in=st.integers(1, 9), stride=st.integers(1, 4))
def test_offsets_are_numbered_by_first_occurrence(side_in: int, stride: int) -> None:
    side_out = (side_in - 1) // stride + 1
    assert offset_index(side_out, side_in, stride).tolist() == _first_occurrences(side_out, side_in, stride)


def test_the_compared_weights_are_not_trivial() -> None:
    """BatchNorm statistics and biases of the compared models are far from 0 and 1."""
    state = hf_model(tiny_config(), heads=1).state_dict()
    for name, neutral in (("running_mean", 0), ("bias", 0), ("running_var", 1), ("weight", 1)):
        assert float((state[f"classifier.batch_norm.{name}"] - neutral).abs().mean()) > 0.1
    assert float(state["classifier.linear.bias"].abs().mean()) > 0.1


def test_config_of_the_model_is_the_given_one() -> None:
    config: LevitConfig = tiny_config()
    assert random_model(config).config is config
