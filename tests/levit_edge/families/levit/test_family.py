"""The row of LeViT: which checkpoints it recognises, live modules that it takes over, random weights, fusing."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from levit_edge.errors import InputError
from levit_edge.families.family import Source
from levit_edge.families.labels import numbered_labels
from levit_edge.families.levit.family import FAMILY
from levit_edge.families.levit.fuse import FusedLevit, fuse
from levit_edge.families.levit.image_processor import default_preprocessing
from levit_edge.families.levit.model import Levit, random_model
from levit_edge.families.load import from_module, resolve
from levit_edge.families.weights import fingerprint
from tests.levit_edge.families.levit.levits import DATA, hf_model, image, tiny_config


@pytest.mark.parametrize("heads", [0, 1, 2])
def test_keys_of_every_layout_are_recognised(heads: int) -> None:
    authors = torch.load(DATA / "levit_tiny_fair.pth", weights_only=True)["model"]
    timm = load_file(DATA / "levit_tiny_timm_conv.safetensors")
    for state in (authors, timm, hf_model(tiny_config(), heads).state_dict()):
        assert FAMILY.recognises(state.keys(), {})


def test_a_config_that_says_levit_is_believed() -> None:
    assert FAMILY.recognises(["layer.weight"], {"model_type": "levit"})
    with pytest.raises(InputError, match=r"^not a LeViT checkpoint \(Hugging Face, .*\); its keys are layer.weight$"):
        FAMILY.load(Source("x", {"layer.weight": torch.zeros(1)}, {"model_type": "levit"}), None)


@pytest.mark.parametrize(
    "keys", [[], ["layer.weight"], ["stem.conv1.linear.weight"], ["stages.0.blocks.0.attn.qkv.linear.weight"]]
)
def test_a_stem_or_a_block_alone_is_no_levit(keys: list[str]) -> None:
    assert not FAMILY.recognises(keys, {"model_type": "vit"})


def test_modules_of_other_classes_are_not_adopted() -> None:
    assert FAMILY.adopt(nn.Linear(2, 2), None) is None
    assert FAMILY.adopt(hf_model(tiny_config(), heads=1), None) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_reference_model_is_copied(dtype: torch.dtype) -> None:
    model = random_model(tiny_config()).to(dtype)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    checkpoint = from_module(model)
    assert isinstance(checkpoint.model, Levit) and checkpoint.model is not model
    assert {parameter.dtype for parameter in checkpoint.model.parameters()} == {torch.float32}
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    expected = {key: tensor.float() for key, tensor in before.items() if not key.endswith("num_batches_tracked")}
    assert checkpoint.sha256 == fingerprint(expected)
    assert (checkpoint.layout, checkpoint.source) == ("native", "levit_edge.families.levit.model.Levit")
    assert checkpoint.preprocessing == default_preprocessing(64)


def test_labels_of_a_reference_model_may_not_be_contradicted() -> None:
    with pytest.raises(InputError, match="class 2: 'owl' and 'fox'"):
        from_module(random_model(tiny_config()), labels=("cat", "dog", "fox"))
    model = random_model(tiny_config(labels=numbered_labels(3)))
    assert from_module(model, ("cat", "dog", "fox")).labels == ("cat", "dog", "fox")
    assert model.config.labels == numbered_labels(3)


def test_a_fused_model_is_copied() -> None:
    model = fuse(random_model(tiny_config())).train()
    checkpoint = from_module(model)
    assert isinstance(checkpoint.model, FusedLevit) and checkpoint.model is not model
    assert model.training and not checkpoint.model.training
    assert checkpoint.sha256 == fingerprint(model.state_dict())
    assert checkpoint.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (checkpoint.layout, checkpoint.source, checkpoint.variant) == ("native", "FusedLevit", "custom")
    assert (checkpoint.labels, checkpoint.image_size) == (("cat", "dog", "owl"), 64)


def test_labels_of_a_fused_model_may_be_replaced() -> None:
    model = fuse(random_model(tiny_config()))
    assert from_module(model, ("a", "b", "c")).labels == ("a", "b", "c")
    assert model.config.labels == ("cat", "dog", "owl")
    with pytest.raises(InputError, match=r"^2 labels were given; the model has 3 classes$"):
        from_module(model, ("a", "b"))


@pytest.mark.parametrize("fused", [False, True])
def test_a_backbone_has_no_labels(fused: bool) -> None:
    backbone = random_model(tiny_config(), heads=0)  # its config names three classes all the same
    model = fuse(backbone) if fused else backbone
    assert from_module(model).labels == ()
    with pytest.raises(InputError, match=r"^3 labels were given; the (model|checkpoint) has 0 classes$"):
        from_module(model, ("cat", "dog", "owl"))


@torch.no_grad()
def test_nan_in_a_module_is_refused_with_its_place() -> None:
    model = random_model(tiny_config())
    fused = fuse(model)
    model.get_parameter("blocks.0.bias")[0, 0] = float("nan")
    fused.get_buffer("blocks.0.bias")[0, 0, 0] = float("inf")
    for module in (model, fused):
        with pytest.raises(InputError, match=f"^the {type(module).__name__} has NaN or infinity in blocks.0.bias$"):
            from_module(module)


@torch.inference_mode()
def test_fusing_takes_both_forms() -> None:
    model, pixels = random_model(tiny_config()), image(tiny_config())
    once = FAMILY.fuse(model)
    twice = FAMILY.fuse(once)
    assert twice is not once
    assert torch.equal(twice(pixels), fuse(model)(pixels))
    assert once.get_parameter("head.weight").data_ptr() != twice.get_parameter("head.weight").data_ptr()
    with pytest.raises(TypeError, match="a LeViT is a Levit or a FusedLevit, not a Linear"):
        FAMILY.fuse(nn.Linear(2, 2))


@torch.inference_mode()
def test_a_variant_with_random_weights() -> None:
    checkpoint = resolve("levit-128s", random_weights=True)
    assert (checkpoint.variant, checkpoint.layout, len(checkpoint.labels)) == ("levit-128S", "native", 1000)
    assert (checkpoint.source, checkpoint.image_size) == ("random weights of levit-128S", 224)
    assert checkpoint.sha256 == resolve("levit-128S", random_weights=True).sha256
    assert resolve("levit-192", random_weights=True, labels=("a", "b")).labels == ("a", "b")
    assert checkpoint.model(torch.zeros(1, 3, 224, 224)).logits.shape == (1, 1000)
