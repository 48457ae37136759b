"""The five published variants with random weights, in the float16 recipes: no file departs from its program."""

from __future__ import annotations

from pathlib import Path

import pytest

from levit_edge.families.labels import numbered_labels
from levit_edge.families.levit.config import VARIANTS, variant_config
from levit_edge.families.levit.fuse import fuse
from levit_edge.families.load import from_module
from quantize.flow import calibrate, quantize, trace
from quantize.recipes import RECIPES
from targets.registry import TARGETS
from tests.levit_edge.families.levit.levits import hf_model, image

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_file_of_a_variant_departs_from_its_program(variant: str, tmp_path: Path) -> None:
    config = variant_config(variant, numbered_labels(1000))
    pixels = image(config, batch=4, seed=1)
    program = trace(fuse(from_module(hf_model(config, heads=2)).model), pixels[:1])
    histograms = calibrate(program, [pixels])
    # The builds of test_variants.py compare the int8 and the float files of every target.
    for recipe in (recipe for recipe in RECIPES.values() if recipe.needs_float16):
        for target in (target for target in TARGETS.values() if target.float16):
            quantized = quantize(program, pixels[:1], recipe, target.scheme, histograms)
            path = tmp_path / f"{recipe.name}-{target.model_file}"
            target.backend.lower(quantized, path, recipe.half)
            assert target.backend.verify is not None
            found = target.backend.verify(path, quantized, recipe.half, image(config, batch=1, seed=2).numpy())
            assert found.departures == (), (target.name, recipe.name)
