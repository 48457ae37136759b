"""A checkpoint finds its family by its keys or its config.json, and is refused in one line when none or two fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from levit_edge.errors import InputError
from levit_edge.families.family import Source
from levit_edge.families.registry import FAMILIES, family, recognise
from tests.levit_edge.families.tiny_vit import TINY_VIT, random_model
from tests.places import CHECKPOINTS


def _levit(config: dict[str, Any] | None = None) -> Source:
    return Source("levit", load_file(CHECKPOINTS / "levit_tiny_timm.safetensors"), config)


def _other(config: dict[str, Any] | None = None) -> Source:
    return Source("other", {"layer0.weight": torch.zeros(1), "layer1.weight": torch.zeros(1)}, config)


def test_levit_is_the_only_family_of_the_product() -> None:
    assert list(FAMILIES) == ["levit"]
    assert all(row.name == name for name, row in FAMILIES.items())


def test_a_family_is_found_by_name(two_families: None) -> None:
    assert family("levit") is FAMILIES["levit"]
    assert family("tiny_vit") is TINY_VIT


def test_an_unknown_family_is_named_with_the_valid_ones(two_families: None) -> None:
    with pytest.raises(InputError, match=r"^unknown model family 'resnet'; valid: levit, tiny_vit$"):
        family("resnet")


def test_keys_tell_two_families_apart(two_families: None) -> None:
    assert recognise(_levit()).name == "levit"
    assert recognise(Source("tiny", random_model().state_dict())).name == "tiny_vit"


@pytest.mark.parametrize("name", ["levit", "tiny_vit"])
def test_config_tells_two_families_apart(name: str, two_families: None) -> None:
    """Then the family itself says which keys are wrong."""
    assert recognise(_other({"model_type": name})).name == name


def test_unknown_keys_are_shown_with_the_known_families(two_families: None) -> None:
    with pytest.raises(
        InputError, match=r"^not of a known model family \(levit, tiny_vit\); its keys are .*$"
    ) as raised:
        recognise(_other())
    assert str(raised.value).endswith("its keys are layer0.weight, layer1.weight")


def test_another_model_type_is_shown() -> None:
    with pytest.raises(InputError, match=r"not of a known model family \(levit\); .* says model_type 'resnet'$"):
        recognise(_other({"model_type": "resnet"}))


def test_a_checkpoint_without_tensors() -> None:
    with pytest.raises(InputError, match=r"its keys are none$"):
        recognise(Source("empty", {}))


def test_a_checkpoint_that_two_families_recognise_is_refused(two_families: None) -> None:
    with pytest.raises(
        InputError, match=r"^of more than one model family \(levit, tiny_vit\); its keys are "
    ) as raised:
        recognise(_levit({"model_type": "tiny_vit"}))
    assert str(raised.value).endswith("config.json says model_type 'tiny_vit'")
