"""The config record: Hugging Face's fields and defaults, the five published rows, and what it refuses."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import transformers

from levit_edge.errors import InputError
from levit_edge.families.levit.config import VARIANTS, LevitConfig, variant_config, variant_name


def test_fields_and_defaults_are_those_of_transformers() -> None:
    theirs = transformers.LevitConfig()
    for field in fields(LevitConfig):
        if field.name != "labels":
            value = getattr(theirs, field.name)
            assert field.default == (tuple(value) if isinstance(value, list | tuple) else value), field.name


def test_default_is_levit_128() -> None:
    assert variant_name(LevitConfig()) == "levit-128"


@pytest.mark.parametrize("name", VARIANTS)
def test_a_row_is_found_by_its_name_in_any_case(name: str) -> None:
    config = variant_config(name.upper(), ("cat", "dog"))
    assert config == VARIANTS[name].with_labels(("cat", "dog"))
    assert variant_name(config) == name


def test_variant_name_ignores_labels_input_and_training_fields() -> None:
    row = VARIANTS["levit-192"]
    changed = replace(row, image_size=192, num_channels=1, drop_path_rate=0.2, initializer_range=0.1, labels=("a",))
    assert variant_name(changed) == "levit-192"
    assert variant_name(replace(row, depths=(4, 4, 3))) == "custom"


def test_unknown_variant_lists_the_valid_ones() -> None:
    with pytest.raises(InputError, match=r"unknown variant 'levit-512'; valid: levit-128S, levit-128, levit-192"):
        variant_config("levit-512")


@pytest.mark.parametrize(
    ("image_size", "sides"), [(224, (14, 7, 4)), (192, (12, 6, 3)), (64, (4, 2, 1)), (16, (1, 1, 1))]
)
def test_resolutions_halve_rounding_up(image_size: int, sides: tuple[int, ...]) -> None:
    assert LevitConfig(image_size=image_size).resolutions == sides


def test_lists_become_tuples_and_labels_are_counted() -> None:
    config = LevitConfig(depths=[1, 2, 3], labels=["a", "b"])  # type: ignore[arg-type]
    assert config.depths == (1, 2, 3)
    assert config.num_labels == 2
    assert hash(config) == hash(replace(config))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_sizes": ()}, "hidden_sizes is empty"),
        ({"depths": (2, 3)}, "depths has 2 entries; hidden_sizes has 3"),
        ({"num_attention_heads": (4, 0, 12)}, r"num_attention_heads is \[4, 0, 12\]; every entry must be at least 1"),
        ({"mlp_ratio": (2, -1, 2)}, r"mlp_ratio is \[2, -1, 2\]; entries must not be negative"),
        ({"hidden_sizes": (100, 256, 384)}, r"hidden_sizes\[0\] is 100; the stem needs a multiple of 8"),
        ({"hidden_sizes": (8, 16, 24)}, r"hidden_sizes is \[8, 16, 24\]; a subsampled stage needs 16"),
        ({"image_size": 230}, "image_size 230: the stem gives a 15x15 grid, but image_size // patch_size is 14"),
        ({"num_channels": 0}, "num_channels is 0; it must be at least 1"),
        ({"image_size": 0}, "image_size is 0"),
    ],
)
def test_what_cannot_be_a_levit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LevitConfig(**changes)
