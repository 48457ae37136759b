"""The fused model is the reference model: same function, other shape, and only operators that every backend takes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from levit_edge.families.labels import numbered_labels
from levit_edge.families.levit.config import SUBSAMPLE_STRIDE, LevitConfig, variant_config
from levit_edge.families.levit.fuse import FusedAttention, FusedLevit, FusedMlp, fuse, merge_heads, split_heads
from levit_edge.families.levit.model import AttentionCore, Levit, SubsampleAttention, random_model
from levit_edge.families.load import from_module
from tests.levit_edge.families.levit.levits import ODD_CONFIGS, VARIANTS_AND_HEADS, hf_model, image, tiny_config

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10}
ONE_STAGE: dict[str, Any] = dict.fromkeys(("key_dim", "mlp_ratio", "attention_ratio"), (2,))
FUSE_CONFIGS: dict[str, dict[str, Any]] = ODD_CONFIGS | {
    "one stage": ONE_STAGE | {"hidden_sizes": (32,), "num_attention_heads": (2,), "depths": (2,)},
    "one attention head": {"num_attention_heads": (1, 1, 1)},
    "several at once": {"image_size": 192, "num_channels": 1, "labels": numbered_labels(11), "depths": (2, 0, 1)},
}
MOVES = {"view", "permute", "flatten", "unflatten"}
OPERATORS = {"conv2d", "linear", "bmm", "softmax", "hardswish", "add", "mean"} | MOVES


def _result(model: Levit, pixels: Tensor) -> Tensor:
    """What the fused model must give: logits, or the pooled feature of a backbone."""
    output = model(pixels)
    return cast("Tensor", output.pooled if output.logits is None else output.logits)


def _check_equal(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    assert 0.1 < float(expected.abs().max()) < 30  # an absolute tolerance means something only at this scale
    assert float((actual - expected).abs().max()) <= tolerance


@torch.inference_mode()
def _check_fused(model: Levit, pixels: Tensor) -> None:
    for dtype, tolerance in TOLERANCE.items():
        reference = model.to(dtype)
        _check_equal(fuse(reference)(pixels.to(dtype)), _result(reference, pixels.to(dtype)), tolerance)


@pytest.fixture(scope="module")
def small() -> FusedLevit:
    """LeViT-128S with 1,000 classes, fused."""
    return fuse(random_model(variant_config("levit-128S", numbered_labels(1000))))


@pytest.fixture(scope="module")
def exported(small: FusedLevit) -> torch.export.ExportedProgram:
    return torch.export.export(small, (image(small.config),))


@pytest.mark.parametrize(("variant", "heads"), VARIANTS_AND_HEADS)
def test_every_variant_keeps_its_function(variant: str, heads: int) -> None:
    config = variant_config(variant, numbered_labels(1000))
    _check_fused(random_model(config, heads), image(config))


@pytest.mark.parametrize("heads", [0, 1, 2])
@pytest.mark.parametrize("name", FUSE_CONFIGS)
def test_odd_configurations_keep_their_function(name: str, heads: int) -> None:
    config = replace(tiny_config(), **FUSE_CONFIGS[name])
    model = random_model(config, heads)
    for batch in (1, 2):
        _check_fused(model.float(), image(config, batch))


def test_a_published_architecture_with_other_sizes_keeps_its_function() -> None:
    row = variant_config("levit-128S", numbered_labels(11))
    config = replace(row, image_size=192, num_channels=1, depths=(1, 3, 2), mlp_ratio=(2, 0, 4))
    _check_fused(random_model(config), image(config))


@pytest.mark.parametrize("variant", ["levit-128S", "levit-192", "levit-256"])
@torch.inference_mode()
def test_it_equals_transformers_directly(variant: str) -> None:
    config = replace(variant_config(variant, numbered_labels(1000)), drop_path_rate=0)
    theirs, pixels = hf_model(config, heads=2), image(config, batch=2)
    model = from_module(theirs).model
    for dtype, tolerance in TOLERANCE.items():
        expected = theirs.to(dtype)(pixels.to(dtype)).logits
        _check_equal(fuse(model.to(dtype))(pixels.to(dtype)), expected, tolerance)


@torch.inference_mode()
def test_extreme_batch_norm_statistics_are_folded_in_float64() -> None:
    """Variances from 1e-8 to 1e4: the fused float32 layer is the exact product, rounded once."""
    model = random_model(tiny_config())
    source = cast("Any", model.blocks[0]).proj
    source.norm.running_var.copy_(torch.logspace(-8, 4, source.norm.num_features))
    fused = cast("FusedAttention", fuse(model).blocks[0]).proj
    scale = source.norm.weight.double() / (source.norm.running_var.double() + source.norm.eps).sqrt()
    assert torch.equal(fused.weight, (source.linear.weight.double() * scale[:, None]).float())
    assert torch.equal(fused.bias, (source.norm.bias.double() - source.norm.running_mean.double() * scale).float())


@pytest.mark.parametrize("batch", [1, 2, 3])
@torch.inference_mode()
def test_an_image_has_one_result_in_any_batch(batch: int) -> None:
    config = tiny_config()
    fused, pixels = fuse(random_model(config).double()), image(config, batch=3).double()
    alone = torch.cat([fused(pixels[index : index + 1]) for index in range(batch)])
    assert float((fused(pixels[:batch]) - alone).abs().max()) < 1e-12


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_heads_are_split_and_merged_without_loss(batch: int, transposed: bool) -> None:
    x = torch.arange(batch * 5 * 4 * 6).reshape(batch * 5, 4 * 6)  # [B * N, H * D]
    parts = split_heads(x, batch, 4, transposed=transposed)
    expected = x.reshape(batch, 5, 4, 6).transpose(1, 2).reshape(batch * 4, 5, 6)  # [B * H, N, D]
    assert torch.equal(parts, expected.transpose(1, 2) if transposed else expected)
    assert torch.equal(merge_heads(expected, batch), x)


def _storages(module: nn.Module) -> set[int]:
    tensors = [*module.parameters(), *module.buffers()]
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_fusing_leaves_its_source_and_the_random_state_alone(dtype: torch.dtype) -> None:
    model = random_model(tiny_config()).to(dtype)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    gradients = [parameter.requires_grad for parameter in model.parameters()]
    random_state = torch.random.get_rng_state()
    fused = fuse(model)
    assert torch.equal(random_state, torch.random.get_rng_state())
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert [parameter.requires_grad for parameter in model.parameters()] == gradients
    assert not _storages(model) & _storages(fused)


def test_a_fused_model_has_its_sources_dtype_and_asks_for_no_gradients() -> None:
    for dtype in (torch.float16, torch.float32, torch.float64):
        fused = fuse(random_model(tiny_config()).to(dtype))
        assert {tensor.dtype for tensor in fused.state_dict().values()} == {dtype}
        assert not any(parameter.requires_grad for parameter in fused.parameters())
        assert not fused.training


def _layers(model: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, kind)]


def test_layers_of_the_small_variant(small: FusedLevit) -> None:
    assert not _layers(small, nn.BatchNorm1d)
    assert not _layers(small, nn.BatchNorm2d)
    assert len(_layers(small, FusedAttention)) == 9 + 2
    assert len(_layers(small, FusedMlp)) == 9 + 2
    assert len(_layers(small, nn.Conv2d)) == 4 + 2  # the stem; the queries of the subsampling attentions
    assert len(_layers(small, nn.Linear)) == 9 * 4 + 2 * 3 + 11 * 2 + 1
    assert all(layer.bias is not None for kind in (nn.Conv2d, nn.Linear) for layer in _layers(small, kind))


def _shapes(block: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in block.state_dict().items() if tensor.dim() > 1}


def test_shapes_of_the_small_variant(small: FusedLevit) -> None:
    same, other = _layers(small, FusedAttention)[0], _layers(small, FusedAttention)[2]
    assert _shapes(same) == {
        "q.weight": (64, 128),
        "k.weight": (64, 128),
        "v.weight": (128, 128),
        "proj.weight": (128, 128),
        "bias": (4, 196, 196),
    }
    assert _shapes(other) == {
        "q.weight": (128, 128, 1, 1),
        "k.weight": (128, 128),
        "v.weight": (512, 128),
        "proj.weight": (256, 512),
        "bias": (8, 49, 196),
    }
    assert small.head is not None
    assert small.head.weight.shape == (1000, 384)


def test_a_backbone_has_no_head() -> None:
    assert fuse(random_model(tiny_config(labels=()), heads=0)).head is None


def _attentions(config: LevitConfig) -> list[tuple[AttentionCore, FusedAttention]]:
    model = random_model(config).double()
    pairs = zip(model.blocks, fuse(model).blocks, strict=True)
    return [(a, b) for a, b in pairs if isinstance(a, AttentionCore) and isinstance(b, FusedAttention)]


def test_the_materialised_bias_is_the_bias_of_each_offset() -> None:
    for source, fused in _attentions(tiny_config()):
        side_in = round(fused.bias.shape[2] ** 0.5)
        side_out = round(fused.bias.shape[1] ** 0.5)
        stride = SUBSAMPLE_STRIDE if isinstance(source, SubsampleAttention) else 1
        for query in range(side_out**2):
            for key in range(side_in**2):
                down = abs(query // side_out * stride - key // side_in)
                across = abs(query % side_out * stride - key % side_in)
                assert torch.equal(fused.bias[:, query, key], source.bias[:, down * side_in + across])


@pytest.mark.parametrize("size", [64, 112])  # even and odd grids
@pytest.mark.parametrize("batch", [1, 2])
@torch.inference_mode()
def test_the_query_convolution_is_a_strided_linear_layer(batch: int, size: int) -> None:
    found = [(a, b) for a, b in _attentions(tiny_config(image_size=size)) if isinstance(a, SubsampleAttention)]
    assert len(found) == 2
    for source, fused in found:
        side, c_in = source.side_in, source.q.linear.in_features
        tokens = torch.randn(batch, side, side, c_in, dtype=torch.float64)
        strided = tokens[:, ::SUBSAMPLE_STRIDE, ::SUBSAMPLE_STRIDE].reshape(-1, c_in)  # [B * N_q, C]
        expected = F.linear(strided, fused.q.get_parameter("weight").flatten(1), fused.q.get_parameter("bias"))
        actual = fused.queries(tokens.reshape(-1, c_in), batch)
        assert torch.allclose(actual, expected, rtol=0, atol=1e-12)
        scaled = source.q(strided[None])[0] * source.key_dim**-0.5
        assert torch.allclose(actual, scaled, rtol=0, atol=1e-12)


def _calls(program: torch.export.ExportedProgram) -> list[torch.fx.Node]:
    return [node for node in program.graph.nodes if node.op == "call_function"]


def _operator(node: torch.fx.Node) -> str:
    return str(node.target).removeprefix("aten.").split(".")[0]


def test_the_exported_graph_has_no_other_operators(exported: torch.export.ExportedProgram) -> None:
    counts = Counter(map(_operator, _calls(exported)))
    assert set(counts) == OPERATORS
    expected = {"conv2d": 6, "linear": 65, "bmm": 22, "softmax": 11, "hardswish": 25, "add": 20 + 11, "mean": 1}
    assert {name: counts[name] for name in expected} == expected


def test_every_layer_of_the_exported_graph_sees_two_or_four_dimensions(
    exported: torch.export.ExportedProgram,
) -> None:
    dimensions = {"linear": 2, "bmm": 3, "conv2d": 4, "mean": 4, "softmax": 3}
    for node in _calls(exported):
        if _operator(node) in dimensions:
            assert node.all_input_nodes[0].meta["val"].dim() == dimensions[_operator(node)]


def test_the_pooling_is_a_mean_over_the_last_two_axes(exported: torch.export.ExportedProgram) -> None:
    (mean,) = (node for node in _calls(exported) if _operator(node) == "mean")
    assert list(mean.args[1:]) == [[2, 3], True]


@torch.inference_mode()
def test_the_exported_program_gives_the_same_logits(small: FusedLevit, exported: torch.export.ExportedProgram) -> None:
    pixels = image(small.config, seed=1)
    assert torch.equal(exported.module()(pixels), small(pixels))
