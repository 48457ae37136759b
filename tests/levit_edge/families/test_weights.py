"""Weights are read from every kind of file without running code; a file that cannot be read says why in one line."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from levit_edge.errors import InputError
from levit_edge.families.load import load_checkpoint
from levit_edge.families.weights import fingerprint, read_directory, read_file
from tests.levit_edge.families.levit.levits import DATA, hf_model, tiny_config

TIMM = DATA / "levit_tiny_timm.safetensors"


def _refusal(path: Path) -> str:
    """The one line, without the path that it must begin with."""
    with pytest.raises(InputError) as raised:
        load_checkpoint(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def _sum(state: dict[str, Tensor]) -> str:
    """The fingerprint of the floating-point tensors; the timm file has integer step counters as well."""
    return fingerprint({key: tensor for key, tensor in state.items() if tensor.is_floating_point()})


def test_a_sharded_directory_is_put_together(tmp_path: Path) -> None:
    state = load_file(TIMM)
    shards = {"a.safetensors": sorted(state)[::2], "b.safetensors": sorted(state)[1::2]}
    for name, keys in shards.items():
        save_file({key: state[key] for key in keys}, tmp_path / name)
    weight_map = {key: name for name, keys in shards.items() for key in keys}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    found = read_directory(tmp_path)
    assert found.keys() == state.keys()
    assert _sum(found) == _sum(state)


def test_a_directory_may_hold_a_torch_archive(tmp_path: Path) -> None:
    torch.save(load_file(TIMM), tmp_path / "pytorch_model.bin")
    assert _sum(read_directory(tmp_path)) == _sum(load_file(TIMM))


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_ema", "state_dict_ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_training_wrappers_and_prefixes(wrapper: str, prefix: str, tmp_path: Path) -> None:
    state = {prefix + key: tensor for key, tensor in load_file(TIMM).items()}
    extras = {"epoch": 3, "optimizer": {"state": {}}, "args": argparse.Namespace(lr=0.1)}
    torch.save(extras | {wrapper: state}, tmp_path / "checkpoint.pth")
    found = read_file(tmp_path / "checkpoint.pth")
    assert found.keys() == load_file(TIMM).keys()
    assert _sum(found) == _sum(load_file(TIMM))


def test_raw_weights_are_taken_before_averaged_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw = load_file(TIMM)
    averaged = {key: tensor + 1 for key, tensor in raw.items()}
    torch.save({"model_ema": averaged, "model": raw}, tmp_path / "checkpoint.pth")
    with caplog.at_level("INFO"):
        assert _sum(read_file(tmp_path / "checkpoint.pth")) == _sum(raw)
    assert "holds model, model_ema; taking model" in caplog.text


def test_a_value_that_is_no_tensor(tmp_path: Path) -> None:
    torch.save({"stem.conv1.linear.weight": torch.zeros(1), "note": "hello"}, tmp_path / "model.pth")
    assert _refusal(tmp_path / "model.pth") == "model.pth: key 'note' holds a str; expected a tensor"


@pytest.mark.parametrize(
    ("content", "message"), [([1, 2], "holds a list; expected a state dict"), ({}, "its keys are none")]
)
def test_a_torch_file_without_a_state_dict(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pth")
    assert message in _refusal(tmp_path / "model.pth")


class _Payload:
    """Unpickling this would run a command."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("exit 1",)


@pytest.mark.parametrize("content", [{"model": _Payload()}, torch.nn.Linear(2, 2)], ids=["command", "module"])
@pytest.mark.parametrize("archive", [True, False], ids=["zip", "pickle"])
def test_a_pickle_that_needs_code_is_refused(content: object, archive: bool, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pth", _use_new_zipfile_serialization=archive)
    assert _refusal(tmp_path / "model.pth") == (
        "model.pth: refused, because loading it would run code stored in the file; "
        "save the tensors alone: torch.save(model.state_dict(), path)"
    )


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors"])
@pytest.mark.parametrize("content", [b"hello, this is no checkpoint", b"\x00" * 64, b"PK\x03\x04" + b"\x00" * 40])
def test_a_file_of_something_else(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    assert f"{path.name}: truncated or not a " in _refusal(path)


@pytest.mark.parametrize("name", ["levit_tiny_timm.safetensors", "levit_tiny_fair.pth"])
@pytest.mark.parametrize("keep", [0.001, 0.5, 0.99])
def test_a_truncated_file(name: str, keep: float, tmp_path: Path) -> None:
    content = (DATA / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * keep)])
    assert f"{name}: truncated or not a " in _refusal(tmp_path / name)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "model.pth").touch()
    assert _refusal(tmp_path / "model.pth") == "model.pth: the file is empty"


def test_a_git_lfs_pointer(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    assert _refusal(path).startswith("model.safetensors: this is a Git LFS pointer, not the weights")


def test_an_unknown_suffix(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    assert _refusal(tmp_path / "model.onnx").startswith("model.onnx: unknown file type '.onnx'; expected one of .safe")


def test_a_missing_file(tmp_path: Path) -> None:
    assert _refusal(tmp_path / "absent.pth") == "no such file or directory"


def test_a_directory_without_weights(tmp_path: Path) -> None:
    assert _refusal(tmp_path).startswith("the directory has no weights; expected one of model.safetensors, ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(b"x")
    path.chmod(0)
    assert _refusal(path) == "model.pth: cannot be read: Permission denied"


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({}, "model.safetensors.index.json has no weight_map"),
        ({"weight_map": {"a": "../other.safetensors"}}, "'../other.safetensors'; a shard must lie beside the index"),
        ({"weight_map": {"a": "absent.safetensors"}}, "absent.safetensors: cannot be read: No such file"),
        ({"weight_map": {"a": "shard.safetensors", "b": "shard.safetensors"}}, "lists 1 keys that no shard has: b"),
    ],
)
def test_a_broken_shard_index(index: object, message: str, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "shard.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert message in _refusal(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize(("content", "message"), [("{", "is not readable JSON"), ("[]", "holds a JSON list")])
def test_broken_json(name: str, content: str, message: str, tmp_path: Path) -> None:
    hf_model(tiny_config(), 1).save_pretrained(tmp_path)
    (tmp_path / name).write_text(content)
    assert f"{name} {message}" in _refusal(tmp_path)
