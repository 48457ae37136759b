"""Recipes are data: what is built in, what a file may change, and one line for whatever it may not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from levit_edge.errors import InputError
from levit_edge.gates.resolve_limits import limits_for
from levit_edge.pipeline.verify import sqnr_db
from quantize.recipes import RECIPES, Recipe, load_recipe
from quantize.scheme import Role
from targets.program.parameters import stored_ranges
from targets.registry import TARGETS
from tests.programs import FULL, micro, quantized, run


def write(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_built_in_recipes() -> None:
    rows = {name: (r.weights, r.activations, r.calibrates, r.half, r.needs_float16) for name, r in RECIPES.items()}
    assert rows == {
        "int8": ("int8", "int8", True, True, False),
        "fp32": ("float32", "float32", False, False, False),
        "fp16": ("float16", "float16", False, True, True),
        "w8a16": ("int8", "float16", False, True, True),
    }
    assert all(load_recipe(name) is recipe and recipe.base == name for name, recipe in RECIPES.items())


def test_every_recipe_has_limits_on_every_target_that_takes_it() -> None:
    for recipe in RECIPES.values():
        for row in TARGETS.values():
            if row.float16 or not recipe.needs_float16:
                assert limits_for(row.name, recipe.base, row.limits).bundle["max_size_ratio"] is not None, (
                    recipe.name,
                    row.name,
                )


def test_settings_are_json_and_complete() -> None:
    settings = RECIPES["int8"].resolved(TARGETS["executorch"].scheme).settings()
    assert json.loads(json.dumps(settings)) == settings
    assert settings["base"] == "int8" and settings["keep_float"] == ["image", "pooled"]
    assert settings["rescale_channels"] is True


def test_a_file_overrides_its_base(tmp_path: Path) -> None:
    text = 'base = "int8"\nactivation_range = "minmax"\nweight_range = "mse"\nkeep_float = ["pooled", "image"]\n'
    recipe = load_recipe(write(tmp_path, text))
    assert (recipe.name, recipe.base, recipe.weights) == ("mine", "int8", "int8")
    assert (recipe.activation_range, recipe.weight_range) == ("minmax", "mse")
    assert recipe.keep_float == ("pooled", "image")
    assert recipe.activation_error == "tensor"  # the base looks behind Hardswish, which needs `mse`


@pytest.mark.parametrize(
    ("text", "keep_float", "activation_error"),
    [
        ('activations = "float16"', (), "tensor"),
        ('activation_range = "minmax"', ("image", "first", "pooled"), "tensor"),
        ("keep_float = []", (), "behind"),
        ('activation_error = "tensor"', ("image", "first", "pooled"), "tensor"),
    ],
)
def test_what_a_file_does_not_use_it_does_not_inherit(
    text: str, keep_float: tuple[str, ...], activation_error: str, tmp_path: Path
) -> None:
    recipe = load_recipe(write(tmp_path, text)).resolved(TARGETS["onnx"].scheme)
    assert (recipe.keep_float, recipe.activation_error) == (keep_float, activation_error)


def test_a_file_switches_rescaling_off_and_float_activations_do_without(tmp_path: Path) -> None:
    assert not load_recipe(write(tmp_path, "rescale_channels = false")).rescale_channels
    assert load_recipe(write(tmp_path, "")).rescale_channels
    assert not load_recipe(write(tmp_path, 'activations = "float16"')).rescale_channels


@pytest.mark.parametrize("target", TARGETS)
def test_the_default_keeps_the_first_layers_and_the_head_float(target: str) -> None:
    kept, stored = (stored_ranges(quantized(target, recipe)) for recipe in ("int8", FULL.name))
    layers = ("stem.0", "head") if target == "executorch" else ("stem.0", "stem.1", "head")
    ends = {f"{layer} {tensor}" for layer in layers for tensor in ("input", "weight", "output")}
    gates = {"stem.1 add", "stem.2 add"} if target == "onnx" else set()  # a Hardswish behind a float layer is float
    assert set(kept) == set(stored) - ends - gates
    noise = [sqnr_db(micro().logits, run(quantized(target, recipe), micro().images)) for recipe in ("int8", FULL.name)]
    assert noise[0] > noise[1] + 1


def test_an_empty_file_is_int8_under_another_name(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, ""))
    assert (recipe.name, recipe.base) == ("mine", "int8")
    assert recipe.settings() | {"name": "int8"} == RECIPES["int8"].settings()


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ('base = "w8a16"', True),
        ('base = "fp16"', True),
        ('base = "w8a16"\nactivations = "float32"', True),
        ('base = "fp32"', False),
        ('base = "int8"\nactivations = "float16"', True),
    ],
)
def test_a_file_needs_float16_where_it_or_its_base_does(tmp_path: Path, text: str, needed: bool) -> None:
    assert load_recipe(write(tmp_path, text)).needs_float16 is needed


MISTAKES = {
    'weights = "int4"': "weights is 'int4'; valid: float32, float16, int8",
    'activations = "int16"': "activations is 'int16'; valid: float32, float16, int8",
    'activation_range = "kl"': "activation_range is 'kl'; valid: minmax, mse",
    'weight_range = "max"': "weight_range is 'max'; valid: minmax, mse",
    "weight_range = 3": "weight_range is 3; valid: minmax, mse",
    'keep_float = ["softmax", "head"]': "keep_float has 'head'; valid: image, layer",
    'activation_error = "behind"\nactivation_range = "minmax"': "is for int8 activations with range mse",
    'activation_error = "before"': "activation_error is 'before'; valid: tensor, behind",
    'keep_float = "softmax"': "keep_float is 'softmax'; give a list of roles and tensors",
    'base = "int4"': "base is 'int4'; valid: int8, fp32, fp16, w8a16",
    "base = []": "base is []; valid: int8",
    "weights = []": "weights is []; valid: float32",
    "keep_float = [[1]]": "keep_float has [1]; valid: image",
    'rescale_channels = "yes"': "rescale_channels is 'yes'; valid: true, false",
    'rescale_channels = true\nactivations = "float16"': "rescale_channels is for int8 activations, not float16",
    "bits = 4": "unknown key 'bits'; valid: base, weights",
    'name = "x"': "unknown key 'name'; valid: base",
    'targets = ["onnx"]': "unknown key 'targets'; valid: base",
    'weights = "float32"': "int8 activations need int8 weights, not float32",
    "weights = ": "cannot be read: Invalid value",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_in_a_file_is_one_line_that_names_it(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe(write(tmp_path, text))
    line = str(caught.value)
    assert line.startswith("recipe ") and "mine" in line and MISTAKES[text] in line and "\n" not in line


def test_what_is_no_recipe_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown recipe 'int4'; valid: int8, fp32, fp16, w8a16, a \.toml file, or"):
        load_recipe("int4")
    with pytest.raises(InputError, match=r"absent\.toml cannot be read: .*No such file"):
        load_recipe(str(tmp_path / "absent.toml"))
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read"):
        load_recipe(str(tmp_path / "mine.toml"))


def test_keep_float_takes_roles_out_of_the_scheme() -> None:
    recipe = Recipe("mine", "int8", weights="int8", activations="int8", keep_float=("pooled", "hardswish"))
    for target in TARGETS.values():
        kept = recipe.scheme(target.scheme).stored
        assert kept == target.scheme.stored - {Role.POOLED, Role.HARDSWISH}


@pytest.mark.parametrize("role", sorted(role.value for role in TARGETS["executorch"].scheme.required))
def test_what_a_target_needs_as_integers_cannot_stay_float(role: str) -> None:
    recipe = Recipe("mine", "int8", weights="int8", activations="int8", keep_float=(role,))
    with pytest.raises(InputError, match=f"recipe mine: keep_float has {role}, which this target needs as integers"):
        recipe.scheme(TARGETS["executorch"].scheme)
    assert Role(role) not in recipe.scheme(TARGETS["coreml"].scheme).stored


@pytest.mark.parametrize("name", ["fp32", "fp16", "w8a16"])
def test_without_int8_activations_nothing_is_stored(name: str) -> None:
    scheme = RECIPES[name].scheme(TARGETS["coreml"].scheme)
    assert not scheme.stored
    assert scheme.constant_bias == ("weight" if name == "w8a16" else "float")
