"""Tensors that are not entirely a LeViT are refused in one line that says what is wrong and where."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from levit_edge.errors import InputError
from levit_edge.families.load import load_checkpoint
from tests.levit_edge.families.levit.levits import DATA

State = dict[str, Tensor]


def _refusal(path: Path) -> str:
    """The one line, without the path that it must begin with."""
    with pytest.raises(InputError) as raised:
        load_checkpoint(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def _edited(tmp_path: Path, edit: Callable[[State], object], name: str = "timm") -> Path:
    """A copy of a tiny checkpoint after ``edit`` has changed its state dict."""
    if name == "fair":
        state: State = torch.load(DATA / "levit_tiny_fair.pth", weights_only=True)["model"]
    else:
        state = load_file(DATA / f"levit_tiny_{name}.safetensors")
    edit(state)
    torch.save(state, tmp_path / "edited.pth")
    return tmp_path / "edited.pth"


QKV = "stages.1.blocks.1.attn.qkv"


def _rename(state: State) -> None:
    state[f"{QKV}.linear.kernel"] = state.pop(f"{QKV}.linear.weight")


def test_missing_and_unexpected_keys_are_both_listed(tmp_path: Path) -> None:
    assert _refusal(_edited(tmp_path, _rename)) == (
        f"missing keys: {QKV}.linear.weight; unexpected keys: {QKV}.linear.kernel"
    )


def test_long_lists_are_shortened(tmp_path: Path) -> None:
    extra = {f"extra.{index}": torch.zeros(1) for index in range(12)}
    message = _refusal(_edited(tmp_path, lambda state: state.update(extra)))
    assert message == f"unexpected keys: {', '.join(sorted(extra)[:8])} and 4 more"


def test_a_head_without_the_first_one(tmp_path: Path) -> None:
    def drop(state: State) -> None:
        for key in [key for key in state if key.startswith("head.")]:
            del state[key]

    assert _refusal(_edited(tmp_path, drop)).startswith("missing keys: head.bn.weight, head.bn.bias, ")


def _drop_block(prefix: str) -> Callable[[State], None]:
    def drop(state: State) -> None:
        for key in [key for key in state if key.startswith(prefix)]:
            del state[key]

    return drop


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("blocks.5.", "missing keys: everything under blocks.5 (there is a blocks.11)"),
        ("blocks.11.", None),
        ("patch_embed.4.", "missing keys: patch_embed.4.c.weight, patch_embed.4.bn.weight, "),
    ],
)
def test_a_missing_block(prefix: str, message: str | None, tmp_path: Path) -> None:
    path = _edited(tmp_path, _drop_block(prefix), "fair")
    if message is None:
        assert load_checkpoint(path).model.config.mlp_ratio == (2, 2, 0)  # a last stage without MLP is a LeViT too
    else:
        assert _refusal(path).startswith(message)


def test_a_stage_with_an_mlp_missing(tmp_path: Path) -> None:
    message = _refusal(_edited(tmp_path, _drop_block("stages.1.blocks.0.mlp.")))
    assert message == "stage 1 has the blocks attention, attention, mlp; expected attention, mlp alternating"


def test_a_subsampling_stage_without_its_mlp(tmp_path: Path) -> None:
    message = _refusal(_edited(tmp_path, _drop_block("stages.1.downsample.mlp.")))
    assert message == "stage 1 does not open with the MLP that follows a subsampling attention"


def test_two_kinds_of_block_in_one_place(tmp_path: Path) -> None:
    path = _edited(tmp_path, lambda state: state.update({"blocks.1.m.qkv.c.weight": torch.zeros(2, 2)}), "fair")
    assert re.search(r"blocks\.1\.m\. holds keys of mlp where blocks\.1\.m\. is attention", _refusal(path))


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        (f"{QKV}.linear.weight", (191, 48), f"wrong shapes: {QKV}.linear.weight is [191, 48], expected [192, 48]"),
        (f"{QKV}.bn.weight", (191,), f"wrong shapes: {QKV}.bn.weight is [191], expected [192]"),
        ("head_dist.linear.weight", (12, 64), "head_dist.linear.weight is [12, 64], expected [11, 64]"),
        (f"{QKV}.linear.weight", (192,), f"{QKV}.linear.weight is [192]; expected 2 non-empty dimensions"),
        (f"{QKV}.linear.weight", (192, 48, 3, 3), "; expected 2 non-empty dimensions"),
        (f"{QKV}.bn.weight", (0,), f"{QKV}.bn.weight is [0]; expected 1 non-empty dimension"),
        ("stages.0.blocks.0.attn.attention_biases", (2, 195), "is [2, 195]; a square image gives a square number"),
        ("stages.0.blocks.0.attn.qkv.linear.weight", (127, 32), "no key and value width fits 2 heads"),
        ("stages.0.blocks.0.mlp.ln1.linear.weight", (65, 32), "is [65, 32]; the MLP must widen by a whole ratio"),
    ],
)
def test_wrong_shapes_name_key_found_and_expected(
    key: str, shape: tuple[int, ...], message: str, tmp_path: Path
) -> None:
    assert message in _refusal(_edited(tmp_path, lambda state: state.update({key: torch.ones(shape)})))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_name_the_tensor(value: float, tmp_path: Path) -> None:
    path = _edited(tmp_path, lambda state: state[f"{QKV}.bn.bias"][3].fill_(value))
    assert _refusal(path) == f"{QKV}.bn.bias contains NaN or infinity"


def test_a_float64_value_beyond_float32_is_infinite(tmp_path: Path) -> None:
    huge = torch.full((11,), 1e300, dtype=torch.float64)
    path = _edited(tmp_path, lambda state: state.update({"head.linear.bias": huge}))
    assert _refusal(path) == "head.linear.bias contains NaN or infinity"


def test_negative_variance(tmp_path: Path) -> None:
    path = _edited(tmp_path, lambda state: state["head.bn.running_var"][0].fill_(-1))
    assert _refusal(path) == "head.bn.running_var contains a negative variance"


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64])
def test_weights_that_are_no_floats(dtype: torch.dtype, tmp_path: Path) -> None:
    path = _edited(tmp_path, lambda state: state.update({"head.linear.bias": torch.zeros(11, dtype=dtype)}))
    assert _refusal(path) == f"head.linear.bias has dtype {str(dtype)[6:]}; weights must be floating point"


@pytest.mark.parametrize(
    "tensor", [torch.zeros(11, device="meta"), torch.zeros(11).to_sparse()], ids=["meta", "sparse"]
)
def test_tensors_without_values(tensor: Tensor, tmp_path: Path) -> None:
    path = _edited(tmp_path, lambda state: state.update({"head.linear.bias": tensor}))
    assert _refusal(path) == "head.linear.bias is not a dense tensor"


def test_another_offset_order_is_refused(tmp_path: Path) -> None:
    path = _edited(tmp_path, lambda state: state["blocks.4.m.attention_bias_idxs"].add_(1), "fair")
    assert _refusal(path) == "blocks.4.m.attention_bias_idxs is not the offset table of a [49, 49] attention"


def test_wrong_number_of_labels() -> None:
    with pytest.raises(InputError, match="2 labels were given; the checkpoint has 11 classes"):
        load_checkpoint(DATA / "levit_tiny_timm.safetensors", labels=("cat", "dog"))
