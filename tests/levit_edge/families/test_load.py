"""What ``--model`` may name: files, directories, live modules, variants and Hub ids, of any registered family."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from levit_edge.errors import InputError, MissingComponentError
from levit_edge.families.load import from_module, load_checkpoint, load_from_hub, resolve, variants
from levit_edge.families.preprocessing import Preprocessing
from levit_edge.families.registry import family
from tests.levit_edge.families.levit.levits import hf_model, tiny_config
from tests.levit_edge.families.tiny_vit import LABELS, PREPROCESSING, TINY_VIT, FusedTinyVit, image, random_model
from tests.places import CHECKPOINTS

LEVIT_FILE = CHECKPOINTS / "levit_tiny_timm.safetensors"


@torch.inference_mode()
def test_a_file_becomes_the_model_that_was_saved(tiny_vit_file: Path) -> None:
    checkpoint = load_checkpoint(tiny_vit_file, LABELS)
    assert (checkpoint.family, checkpoint.variant, checkpoint.layout) == ("tiny_vit", "tiny-vit", "tiny_vit")
    assert (checkpoint.source, checkpoint.labels) == (str(tiny_vit_file), LABELS)
    assert (checkpoint.num_channels, checkpoint.image_size, checkpoint.preprocessing) == (3, 32, PREPROCESSING)
    assert checkpoint.parameters == sum(parameter.numel() for parameter in random_model().parameters())
    fused = family(checkpoint.family).fuse(checkpoint.model)
    assert isinstance(fused, FusedTinyVit)
    pixels = image(batch=2)
    assert torch.equal(checkpoint.model(pixels), random_model()(pixels))
    assert torch.allclose(fused(pixels), random_model()(pixels), rtol=0, atol=1e-5)


def test_a_levit_beside_another_family(two_families: None) -> None:
    assert load_checkpoint(LEVIT_FILE).family == "levit"


def test_a_directory_hands_both_json_files_to_the_family(tiny_vit_file: Path) -> None:
    (tiny_vit_file.parent / "config.json").write_text(json.dumps({"model_type": "tiny_vit", "labels": ["a", "b", "c"]}))
    processor = PREPROCESSING.model_copy(update={"resample": "nearest"})
    (tiny_vit_file.parent / "preprocessor_config.json").write_text(processor.model_dump_json())
    checkpoint = load_checkpoint(tiny_vit_file.parent)
    assert (checkpoint.labels, checkpoint.preprocessing) == (("a", "b", "c"), processor)
    assert checkpoint.sha256 == load_checkpoint(tiny_vit_file).sha256


def test_a_refusal_of_the_family_begins_with_the_path(tiny_vit_file: Path) -> None:
    state = load_file(tiny_vit_file)
    del state["norm.bias"]
    save_file(state, tiny_vit_file)
    with pytest.raises(InputError) as raised:
        load_checkpoint(tiny_vit_file)
    assert str(raised.value) == f"{tiny_vit_file}: missing or unexpected keys: norm.bias"


def test_a_checkpoint_of_no_family(tmp_path: Path) -> None:
    save_file({f"layer{index}.weight": torch.zeros(2) for index in range(5)}, tmp_path / "resnet.safetensors")
    with pytest.raises(InputError) as raised:
        load_checkpoint(tmp_path / "resnet.safetensors")
    assert str(raised.value) == (
        f"{tmp_path / 'resnet.safetensors'}: not of a known model family (levit); "
        "its keys are layer0.weight, layer1.weight, layer2.weight and 2 more"
    )


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        (
            Preprocessing(do_resize=False, do_center_crop=False),
            "neither crops nor resizes to the 32 pixels of the model",
        ),
        (Preprocessing(do_center_crop=False), "neither crops nor resizes to the 32 pixels of the model"),
        (Preprocessing(crop_size=(32, 48)), "gives 32x48 pixels; the model takes 32"),
        (
            Preprocessing(shortest_edge=None, resize_to=(64, 32), do_center_crop=False),
            "gives 64x32 pixels; the model takes 32",
        ),
    ],
)
def test_an_image_processor_for_other_images_is_refused(
    processor: Preprocessing, message: str, tiny_vit_file: Path
) -> None:
    (tiny_vit_file.parent / "preprocessor_config.json").write_text(processor.model_dump_json())
    with pytest.raises(InputError) as raised:
        load_checkpoint(tiny_vit_file.parent)
    assert str(raised.value) == f"{tiny_vit_file.parent}: the image processor {message}"


def test_the_crop_decides_on_the_size_and_not_the_resize(tiny_vit_file: Path) -> None:
    processor = Preprocessing(shortest_edge=None, resize_to=(40, 50), crop_size=(32, 32))
    (tiny_vit_file.parent / "preprocessor_config.json").write_text(processor.model_dump_json())
    assert load_checkpoint(tiny_vit_file.parent).preprocessing == processor


@torch.inference_mode()
def test_each_family_is_asked_whether_a_module_is_its_own(two_families: None) -> None:
    model = random_model()
    for module, name in ((model, "TinyVit"), (TINY_VIT.fuse(model), "FusedTinyVit")):
        checkpoint = from_module(module, LABELS)
        assert (checkpoint.family, checkpoint.layout, checkpoint.source) == ("tiny_vit", "native", name)
        fused = TINY_VIT.fuse(checkpoint.model)
        assert torch.allclose(fused(image()), model(image()), rtol=0, atol=1e-5)


@pytest.mark.parametrize("heads", [0, 1, 2])
def test_live_transformers_module(heads: int, tmp_path: Path) -> None:
    module = hf_model(tiny_config(), heads)
    module.save_pretrained(tmp_path)
    live = from_module(module)
    assert live.sha256 == load_checkpoint(tmp_path).sha256
    assert live.labels == (("cat", "dog", "owl") if heads else ())
    assert live.source == f"transformers.models.levit.modeling_levit.{type(module).__name__}"


def test_the_class_that_a_module_was_saved_from_does_not_matter() -> None:
    """A classifier with one head may be loaded from a checkpoint of two; its config still names the latter's class."""
    module = hf_model(tiny_config(), heads=1)
    module.config.architectures = ["LevitForImageClassificationWithTeacher"]
    assert from_module(module).labels == ("cat", "dog", "owl")


def test_live_module_of_no_family() -> None:
    message = r"^torch\.nn\.modules\.linear\.Linear: not of a known model family \(levit\); its keys are bias, weight$"
    with pytest.raises(InputError, match=message):
        from_module(torch.nn.Linear(2, 2))


def test_hub_id_is_downloaded_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any]] = []

    def snapshot_download(repo_id: str, *, allow_patterns: list[str]) -> str:
        asked.append((repo_id, allow_patterns))
        hf_model(tiny_config(), heads=2).save_pretrained(tmp_path)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert resolve("some-org/levit-tiny").labels == ("cat", "dog", "owl")
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
    assert resolve(str(LEVIT_FILE)).sha256 == load_checkpoint(LEVIT_FILE).sha256


def test_resolve_a_variant_of_any_family_with_random_weights(two_families: None) -> None:
    assert variants()[-2:] == ("levit-384", "tiny-vit")
    checkpoint = resolve("Tiny-ViT", random_weights=True)
    assert (checkpoint.family, checkpoint.labels) == ("tiny_vit", LABELS)
    assert checkpoint.source == "random weights of tiny-vit"
    assert resolve("levit-128s", random_weights=True, labels=("a", "b")).labels == ("a", "b")


@pytest.mark.parametrize(
    ("spec", "random_weights", "message"),
    [
        ("levit-256", False, "levit-256 names an architecture without weights; .* add --random-weights"),
        ("Tiny-vit", False, "Tiny-vit names an architecture without weights; .* add --random-weights"),
        ("levit-999", True, "unknown variant 'levit-999'; valid: levit-128S, .*, tiny-vit$"),
        (
            "levit-999",
            False,
            "levit-999: no such file or directory; .* or one of levit-128S, .*, tiny-vit with --random",
        ),
        ("weights/levit.pth", False, r"weights/levit.pth: no such file or directory; give a path to a checkpoint"),
        ("models/levit-mistyped", False, "models/levit-mistyped: no such file or directory"),
    ],
)
def test_resolve_refuses(
    spec: str,
    random_weights: bool,
    message: str,
    two_families: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "models").mkdir()  # org/name is taken for a Hub id only when there is no folder called org
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        resolve(spec, random_weights=random_weights)
