"""A ``config.json`` must agree with the weights; timm's is understood too, with its preprocessing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from levit_edge.errors import InputError
from levit_edge.families.labels import numbered_labels
from levit_edge.families.levit.config import variant_config
from levit_edge.families.levit.key_layouts import LAYOUTS, Block, key_map
from levit_edge.families.levit.model import random_model
from levit_edge.families.levit.timm_preprocessing import preprocessing_from_timm
from levit_edge.families.load import load_checkpoint
from levit_edge.families.preprocessing import Preprocessing
from tests.levit_edge.families.levit.levits import hf_model, tiny_config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Hugging Face directory with two heads and three named classes."""
    hf_model(tiny_config(), heads=2).save_pretrained(tmp_path)
    return tmp_path


def _edit(folder: Path, **changes: Any) -> Path:
    """Change fields of the config.json; None removes one."""
    path = folder / "config.json"
    raw = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in raw.items() if value is not None}))
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": [1, 2, 2]}, r"config.json says depths \[1, 2, 2\]; the weights have \[1, 2, 1\]"),
        ({"depths": [1, 2]}, r"config.json says depths \[1, 2\]; the weights have \[1, 2, 1\]"),
        ({"hidden_sizes": [32, 48, 72]}, r"hidden_sizes \[32, 48, 72\]; the weights have \[32, 48, 64\]"),
        ({"num_attention_heads": [2, 3, 8]}, r"num_attention_heads \[2, 3, 8\]; the weights have \[2, 3, 4\]"),
        ({"key_dim": [16, 16, 32]}, r"key_dim \[16, 16, 32\]; the weights have \[16, 16, 16\]"),
        ({"mlp_ratio": [2, 2, 4]}, r"mlp_ratio \[2, 2, 4\]; the weights have \[2, 2, 2\]"),
        ({"attention_ratio": [2, 4, 2]}, r"attention_ratio \[2, 4, 2\]; the weights have \[2, 2, 2\]"),
        ({"num_channels": 1}, "config.json says num_channels 1; the weights have 3"),
        ({"kernel_size": 5}, "config.json says kernel_size 5; the weights have 3"),
        ({"image_size": 224}, "image_size 224, a 14x14 grid; the attention biases in the weights are for 4x4"),
        ({"image_size": [64, 96]}, r"image_size \[64, 96\]; expected one whole number"),
        ({"image_size": "64"}, "image_size '64'; expected one whole number"),
        ({"depths": 3}, "depths 3; expected a list of whole numbers"),
        ({"initializer_range": "small"}, "initializer_range 'small'; expected a number"),
        ({"architectures": ["LevitForImageClassification"]}, "number of heads 1; the weights have 2"),
        ({"id2label": {"0": "a", "1": "b"}}, "number of classes 2; the weights have 3"),
        ({"id2label": {"0": "a", "1": "b", "3": "c"}}, "id2label with ids 0, 1, 3; expected names for 0, 1, 2"),
        ({"id2label": {str(i): "x" for i in range(1, 9)}}, r"id2label with ids 1 … 8 \(8 of them\)"),
        ({"id2label": {"0": "a", "1": "b", "2": 7}}, "id2label with ids 0, 1, 2; expected names"),
        ({"id2label": {"zero": "a"}}, "id2label that is not a map of class number to name"),
        ({"id2label": ["a", "b", "c"]}, "id2label that is not a map of class number to name"),
        ({"model_type": "vit"}, "config.json says model_type 'vit'; expected 'levit'"),
        ({"stride": 1}, "image_size 64: the stem gives a 64x64 grid"),
    ],
)
def test_disagreement_names_both_values(changes: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(InputError, match=message):
        load_checkpoint(_edit(folder, **changes))


def test_fields_left_out_come_from_the_weights(folder: Path) -> None:
    whole = load_checkpoint(folder)
    for name in ("image_size", "depths", "hidden_sizes", "key_dim", "num_channels", "patch_size", "architectures"):
        _edit(folder, **{name: None})
    assert load_checkpoint(folder).model.config == whole.model.config


def test_training_fields_are_kept(folder: Path) -> None:
    config = load_checkpoint(_edit(folder, drop_path_rate=0.1, initializer_range=0.5, image_size=[64, 64])).model.config
    assert (config.drop_path_rate, config.initializer_range, config.image_size) == (0.1, 0.5, 64)


def test_labels_are_sorted_by_number(folder: Path) -> None:
    assert load_checkpoint(_edit(folder, id2label={"2": "c", "0": "a", "1": "b"})).labels == ("a", "b", "c")


def test_given_labels_replace_numbered_ones_only(folder: Path) -> None:
    with pytest.raises(InputError, match=r"differ from those in config.json \(class 2: 'owl' and 'fox'\)"):
        load_checkpoint(folder, labels=("cat", "dog", "fox"))
    assert load_checkpoint(folder, labels=("cat", "dog", "owl")).labels == ("cat", "dog", "owl")
    _edit(folder, id2label=dict(enumerate(numbered_labels(3))))
    assert load_checkpoint(folder, labels=("cat", "dog", "fox")).labels == ("cat", "dog", "fox")


def test_without_names_classes_are_numbered(folder: Path) -> None:
    assert load_checkpoint(_edit(folder, id2label=None)).labels == numbered_labels(3)


TIMM_CFG: dict[str, Any] = {
    "input_size": [3, 224, 224],
    "interpolation": "bicubic",
    "crop_pct": 0.9,
    "crop_mode": "center",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
}


@pytest.fixture(scope="module")
def timm_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LeViT-128S with five classes under timm's names."""
    model, timm = random_model(variant_config("levit-128S", numbered_labels(5))), LAYOUTS[2]
    down, down_mlp, attention, mlp = timm.blocks
    blocks = []
    for stage, depth in enumerate(model.config.depths):
        if stage:
            blocks += [Block(row, row.prefix.format(stage)) for row in (down, down_mlp)]
        blocks += [Block(row, row.prefix.format(stage, i)) for i in range(depth) for row in (attention, mlp)]
    state = model.state_dict()
    path = tmp_path_factory.mktemp("timm") / "model.safetensors"
    save_file({theirs: state[ours] for theirs, ours in key_map(timm, blocks, 2).items()}, path)
    return path


def _timm_folder(weights: Path, folder: Path, **changes: Any) -> Path:
    raw = {"architecture": "levit_128s", "num_classes": 5, "global_pool": "avg", "pretrained_cfg": TIMM_CFG} | changes
    (folder / "config.json").write_text(json.dumps(raw))
    (folder / "model.safetensors").symlink_to(weights)
    return folder


def test_timm_directory(timm_weights: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(_timm_folder(timm_weights, tmp_path, label_names=list("abcde")))
    assert (checkpoint.layout, checkpoint.variant, checkpoint.labels) == ("timm", "levit-128S", tuple("abcde"))
    assert checkpoint.sha256 == load_checkpoint(timm_weights).sha256
    half, quarter = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    assert checkpoint.preprocessing == Preprocessing(shortest_edge=217, image_mean=half, image_std=quarter)


def test_timm_transform_as_a_preprocessor_config() -> None:
    assert preprocessing_from_timm(TIMM_CFG) == {
        "do_resize": True,
        "size": {"shortest_edge": 217},  # int(256 / 224 * 217) = floor(224 / 0.9) = 248
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.25, 0.25, 0.25],
    }


def test_preprocessor_config_wins_over_timm(timm_weights: Path, tmp_path: Path) -> None:
    cfg = TIMM_CFG | {"crop_mode": "border"}
    (tmp_path / "preprocessor_config.json").write_text('{"resample": 2}')
    checkpoint = load_checkpoint(_timm_folder(timm_weights, tmp_path, pretrained_cfg=cfg))
    assert checkpoint.preprocessing == Preprocessing(resample="bilinear")


def test_an_empty_preprocessor_config_wins_over_timm_too(timm_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text("{}")
    assert load_checkpoint(_timm_folder(timm_weights, tmp_path)).preprocessing == Preprocessing()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "levit_128"}, r"num_attention_heads \[4, 8, 12\]|depths \[4, 4, 4\]; the weights have"),
        ({"architecture": "levit_256d"}, "architecture 'levit_256d'; unknown variant 'levit-256d'; valid: levit-128S"),
        ({"architecture": "resnet50"}, "architecture 'resnet50'; unknown variant"),
        ({"global_pool": "max"}, "global_pool 'max'; only 'avg' is supported"),
        ({"num_classes": 7}, "number of classes 7; the weights have 5"),
        ({"label_names": ["a"]}, "number of class names 1; the weights have 5"),
        ({"pretrained_cfg": {"input_size": [3, 192, 192]}}, "image_size 192, a 12x12 grid; .* for 14x14"),
        ({"pretrained_cfg": {"input_size": [224, 224]}}, r"input_size \[224, 224\]; expected \[channels, height, w"),
        ({"pretrained_cfg": {"input_size": [3, 224, 192]}}, r"expected one whole number \(images are square\)"),
    ],
)
def test_timm_disagreement(changes: dict[str, Any], message: str, timm_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load_checkpoint(_timm_folder(timm_weights, tmp_path, **changes))


def test_timm_conv_architecture_and_model_args(timm_weights: Path, tmp_path: Path) -> None:
    folder = _timm_folder(timm_weights, tmp_path, architecture="levit_conv_128", model_args={"num_heads": [4, 6, 8]})
    assert load_checkpoint(folder).variant == "levit-128S"


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"crop_pct": 0.875}, {"shortest_edge": 224}),
        ({"crop_pct": 1.0}, {"shortest_edge": 196}),
        ({"crop_pct": 0.95}, {"shortest_edge": 206}),
        ({"crop_mode": "squash"}, {"height": 248, "width": 248}),
    ],
)
def test_timm_resize(changes: dict[str, Any], size: dict[str, int]) -> None:
    assert preprocessing_from_timm(TIMM_CFG | changes)["size"] == size


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interpolation": "random"}, "interpolation 'random'; valid: nearest, lanczos, bilinear, bicubic"),
        ({"crop_mode": "border"}, "crop_mode 'border'; valid: center, squash; add a preprocessor_config.json"),
        ({"crop_pct": 0}, r"crop_pct 0; expected a number in \(0, 1\]"),
        ({"crop_pct": None}, r"crop_pct None; expected a number"),
        ({"crop_pct": 224 / 255}, "resizes to 255 pixels, which LevitImageProcessor cannot; add a preprocessor"),
    ],
)
def test_timm_transform_that_cannot_be_expressed(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        preprocessing_from_timm(TIMM_CFG | changes)
