"""Checkpoints in every published layout and wrapping, from files, directories, live modules and the Hub."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from levit_edge.errors import InputError, MissingComponentError
from levit_edge.families.levit.checkpoint import Checkpoint, from_module, load_checkpoint, load_from_hub, resolve_model
from levit_edge.families.levit.config import numbered_labels
from levit_edge.families.levit.key_layouts import key_map, optional_keys, recognise
from levit_edge.families.levit.model import random_model
from levit_edge.families.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from tests.levit_edge.families.levit.levits import DATA, hf_model, image, tiny_config
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


def _to_torch_archive(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize("name", TINY)
def test_saved_outputs_are_reproduced(name: str) -> None:
    expected = np.load(DATA / "expected.npz")
    checkpoint = load_checkpoint(_tiny(name))
    assert checkpoint.layout == name.split("_")[0]
    assert len(checkpoint.model.heads) == (1 if name.endswith("nodist") else 2)
    assert checkpoint.config.labels == numbered_labels(11)
    assert checkpoint.variant == "custom"
    assert checkpoint.preprocessing_config is None
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
    _to_torch_archive(folder)
    second = load_checkpoint(folder)
    assert first.layout == second.layout == "huggingface"
    assert first.sha256 == second.sha256
    assert first.config.labels == second.config.labels == ("cat", "dog", "owl")


def test_bare_hf_file_needs_no_config(tmp_path: Path) -> None:
    bare = load_checkpoint(_save_hf(tmp_path) / "model.safetensors")
    assert bare.config.labels == numbered_labels(3)
    assert bare.config == tiny_config(bare.config.labels)


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
    assert checkpoint.config.labels == ()


def test_sharded_hf_directory(tmp_path: Path) -> None:
    folder = _save_hf(tmp_path)
    whole, state = load_checkpoint(folder), load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards = {"a.safetensors": sorted(state)[::2], "b.safetensors": sorted(state)[1::2]}
    for name, keys in shards.items():
        save_file({key: state[key] for key in keys}, folder / name)
    weight_map = {key: name for name, keys in shards.items() for key in keys}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert load_checkpoint(folder).sha256 == whole.sha256


def test_preprocessor_config_is_passed_on(tmp_path: Path) -> None:
    folder = _save_hf(tmp_path)
    assert load_checkpoint(folder).preprocessing_config is None
    (folder / "preprocessor_config.json").write_text('{"size": {"shortest_edge": 64}}')
    assert load_checkpoint(folder).preprocessing_config == {"size": {"shortest_edge": 64}}


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_ema", "state_dict_ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_training_wrappers_and_prefixes(wrapper: str, prefix: str, tmp_path: Path) -> None:
    state = {prefix + key: tensor for key, tensor in load_file(_tiny("timm")).items()}
    extras = {"epoch": 3, "optimizer": {"state": {}}, "args": argparse.Namespace(lr=0.1)}
    torch.save(extras | {wrapper: state}, tmp_path / "checkpoint.pth")
    assert load_checkpoint(tmp_path / "checkpoint.pth").sha256 == load_checkpoint(_tiny("timm")).sha256


def test_raw_weights_are_taken_before_averaged_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw, averaged = load_file(_tiny("timm")), load_file(_tiny("timm_nodist"))
    torch.save({"model_ema": averaged, "model": raw}, tmp_path / "checkpoint.pth")
    with caplog.at_level("INFO"):
        assert load_checkpoint(tmp_path / "checkpoint.pth").sha256 == load_checkpoint(_tiny("timm")).sha256
    assert "holds model, model_ema; taking model" in caplog.text


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
    assert load_checkpoint(_tiny("fair"), labels=names).config.labels == tuple(names)


@pytest.mark.parametrize("heads", [0, 1, 2])
def test_live_transformers_module(heads: int, tmp_path: Path) -> None:
    module = hf_model(tiny_config(), heads)
    module.save_pretrained(tmp_path)
    live = from_module(module)
    assert live.sha256 == load_checkpoint(tmp_path).sha256
    assert live.config.labels == (("cat", "dog", "owl") if heads else ())
    assert live.source == f"transformers.models.levit.modeling_levit.{type(module).__name__}"


def test_live_reference_model_is_copied_and_takes_labels() -> None:
    model = random_model(tiny_config())
    before = model.config
    checkpoint = from_module(model)
    assert checkpoint.model is not model
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in checkpoint.model.state_dict().items())
    assert checkpoint.layout == "native"
    assert model.config == before
    with pytest.raises(InputError, match="class 2: 'owl' and 'fox'"):
        from_module(model, labels=("cat", "dog", "fox"))


def test_live_module_that_is_no_levit() -> None:
    with pytest.raises(InputError, match=r"Linear: not a LeViT checkpoint .* keys such as bias, weight"):
        from_module(torch.nn.Linear(2, 2))


def test_hub_id_is_downloaded_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any]] = []

    def snapshot_download(repo_id: str, *, allow_patterns: list[str]) -> str:
        asked.append((repo_id, allow_patterns))
        return str(_save_hf(tmp_path))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert resolve_model("some-org/levit-tiny").config.labels == ("cat", "dog", "owl")
    assert [name for name, _ in asked] == ["some-org/levit-tiny"]
    assert "config.json" in asked[0][1]


def test_hub_failure_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(repo_id: str, **_: Any) -> str:
        raise huggingface_hub.errors.OfflineModeIsEnabled("offline\nmore text")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(InputError, match=r"^org/name: no such path here, and the Hub did not give it: offline$"):
        load_from_hub("org/name")


def test_missing_hub_client_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingComponentError, match=r"pip install 'huggingface_hub>=1\.0'"):
        load_from_hub("org/name")


def test_resolve_a_path() -> None:
    assert resolve_model(str(_tiny("timm"))).sha256 == load_checkpoint(_tiny("timm")).sha256


def test_resolve_a_variant_with_random_weights() -> None:
    checkpoint = resolve_model("levit-128s", random_weights=True)
    assert (checkpoint.variant, checkpoint.layout, checkpoint.config.num_labels) == ("levit-128S", "native", 1000)
    assert checkpoint.sha256 == resolve_model("levit-128S", random_weights=True).sha256
    assert resolve_model("levit-192", random_weights=True, labels=("a", "b")).config.labels == ("a", "b")
    assert _logits(checkpoint, image(checkpoint.config)).shape == (1, 1000)


@pytest.mark.parametrize(
    ("spec", "random_weights", "message"),
    [
        ("levit-256", False, "levit-256 names an architecture without weights; .* add --random-weights"),
        ("levit-999", True, "unknown variant 'levit-999'; valid: levit-128S"),
        ("levit-999", False, "levit-999: no such file or directory; give a path .* or one of levit-128S, .*"),
        ("weights/levit.pth", False, r"weights/levit.pth: no such file or directory"),
        ("models/levit-mistyped", False, "models/levit-mistyped: no such file or directory"),
    ],
)
def test_resolve_refuses(
    spec: str, random_weights: bool, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()  # org/name is taken for a Hub id only when there is no folder called org
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        resolve_model(spec, random_weights=random_weights)
