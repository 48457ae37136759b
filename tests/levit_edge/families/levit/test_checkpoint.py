"""Checkpoints in every published layout become the same model: logits, labels and sums."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from levit_edge.errors import InputError
from levit_edge.families.family import Checkpoint
from levit_edge.families.labels import numbered_labels
from levit_edge.families.levit.image_processor import default_preprocessing
from levit_edge.families.levit.key_layouts import key_map, optional_keys, recognise
from levit_edge.families.load import load_checkpoint
from levit_edge.families.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from tests.levit_edge.families.levit.levits import DATA, hf_model, tiny_config
from tests.places import SHARED

TINY = {
    "fair": ".pth",
    "fair_nodist": ".pth",
    "timm": ".safetensors",
    "timm_conv": ".safetensors",
    "timm_nodist": ".safetensors",
}


def _tiny(name: str) -> Path:
    return DATA / f"levit_tiny_{name}{TINY[name]}"


def _logits(checkpoint: Checkpoint, pixels: Tensor) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = checkpoint.model(pixels).logits
    return logits


def _save_hf(folder: Path, heads: int = 2) -> Path:
    hf_model(tiny_config(), heads).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", TINY)
def test_saved_outputs_are_reproduced(name: str) -> None:
    expected = np.load(DATA / "expected.npz")
    checkpoint = load_checkpoint(_tiny(name))
    assert checkpoint.layout == name.split("_")[0]
    assert len(checkpoint.model.heads) == (1 if name.endswith("nodist") else 2)
    assert checkpoint.labels == checkpoint.model.config.labels == numbered_labels(11)
    assert (checkpoint.family, checkpoint.variant) == ("levit", "custom")
    assert (checkpoint.num_channels, checkpoint.image_size) == (3, checkpoint.model.config.image_size)
    assert checkpoint.preprocessing == default_preprocessing(checkpoint.image_size)
    assert checkpoint.source == str(_tiny(name))
    difference = _logits(checkpoint, torch.from_numpy(expected["x"])).numpy() - expected[name]
    assert np.abs(difference).max() <= 1e-5


def _pixels(file: Any) -> Tensor:
    """Shortest edge 256 bicubic, centre crop 224, ImageNet mean and std."""
    picture = Image.open(file).convert("RGB").resize((256, 256), Image.Resampling.BICUBIC).crop((16, 16, 240, 240))
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255 - mean) / std


@pytest.mark.skipif(not (SHARED / "checkpoints").is_dir(), reason="the trained CIFAR-10 checkpoint is not beside here")
def test_trained_checkpoint_gives_the_logits_of_timm() -> None:
    checkpoint = load_checkpoint(SHARED / "checkpoints" / "levit_128s_cifar10.safetensors")
    expected = np.load(SHARED / "checkpoints" / "levit_128s_cifar10.expected.npz")
    with ZipFile(SHARED / "data" / "cifar10-test-2000.zip") as archive:
        pixels = torch.stack([_pixels(archive.open(str(name))) for name in expected["names"]])
    assert checkpoint.variant == "levit-128S"
    assert np.abs(_logits(checkpoint, pixels).numpy() - expected["logits"]).max() <= 1e-5


def test_hf_directory_with_a_torch_archive_equals_safetensors(tmp_path: Path) -> None:
    folder = _save_hf(tmp_path)
    first = load_checkpoint(folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    second = load_checkpoint(folder)
    assert first.layout == second.layout == "huggingface"
    assert first.sha256 == second.sha256
    assert first.labels == second.labels == ("cat", "dog", "owl")


def test_bare_hf_file_needs_no_config(tmp_path: Path) -> None:
    bare = load_checkpoint(_save_hf(tmp_path) / "model.safetensors")
    assert bare.labels == numbered_labels(3)
    assert bare.model.config == tiny_config(bare.labels)


def test_offset_tables_in_an_old_hf_file_are_consumed(tmp_path: Path) -> None:
    """Older releases of transformers saved the offset tables."""
    folder = _save_hf(tmp_path)
    whole, state = load_checkpoint(folder), load_file(folder / "model.safetensors")
    layout, blocks = recognise(state)
    for theirs, ours in optional_keys(key_map(layout, blocks, 2)).items():
        state[theirs] = whole.model.get_buffer(ours)
    save_file(state, folder / "old.safetensors")
    assert sum(key.endswith("attention_bias_idxs") for key in state) == 6
    assert load_checkpoint(folder / "old.safetensors").sha256 == whole.sha256


def test_hf_backbone_inside_a_classifier_file(tmp_path: Path) -> None:
    """A backbone keeps the ``levit.`` prefix when the heads of a classifier are removed."""
    state = load_file(_save_hf(tmp_path) / "model.safetensors")
    save_file({key: t for key, t in state.items() if key.startswith("levit.")}, tmp_path / "backbone.safetensors")
    checkpoint = load_checkpoint(tmp_path / "backbone.safetensors")
    assert len(checkpoint.model.heads) == 0
    assert checkpoint.labels == ()


def test_preprocessor_config_is_read(tmp_path: Path) -> None:
    folder = _save_hf(tmp_path)
    assert load_checkpoint(folder).preprocessing == default_preprocessing(64)
    (folder / "preprocessor_config.json").write_text('{"size": {"shortest_edge": 70}, "crop_size": 64}')
    found = load_checkpoint(folder).preprocessing
    assert found == default_preprocessing(64).model_copy(update={"shortest_edge": 70})


def test_a_preprocessor_config_for_another_size_is_refused(tmp_path: Path) -> None:
    folder = _save_hf(tmp_path)
    (folder / "preprocessor_config.json").write_text('{"size": {"shortest_edge": 64}}')  # the crop stays at 224
    with pytest.raises(InputError, match=r": the image processor gives 224x224 pixels; the model takes 64$"):
        load_checkpoint(folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_become_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    state = {key: t.to(dtype) if t.is_floating_point() else t for key, t in load_file(_tiny("timm")).items()}
    save_file(state, tmp_path / "model.safetensors")
    model = load_checkpoint(tmp_path / "model.safetensors").model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model.get_parameter("stem.0.conv.weight"), state["stem.conv1.linear.weight"].float())


def test_key_order_does_not_matter(tmp_path: Path) -> None:
    state = load_file(_tiny("timm"))
    torch.save({key: state[key] for key in sorted(state, reverse=True)}, tmp_path / "reversed.pth")
    assert load_checkpoint(tmp_path / "reversed.pth").sha256 == load_checkpoint(_tiny("timm")).sha256


def test_more_than_ten_blocks_are_ordered_by_number() -> None:
    """The authors' file has blocks 0 to 11; 10 must follow 9, not 1."""
    blocks = load_checkpoint(_tiny("fair")).model.blocks
    assert [type(block).__name__ for block in blocks][8:11] == ["SubsampleAttention", "Mlp", "Attention"]


def test_given_labels_name_the_classes() -> None:
    names = [f"class {index}" for index in range(11)]
    assert load_checkpoint(_tiny("fair"), labels=names).labels == tuple(names)
