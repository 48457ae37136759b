"""Read a state dict without running code from it: safetensors files, torch archives, directories with shards."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from levit_edge.errors import InputError
from levit_edge.wording import first_line, listed

logger = logging.getLogger(__name__)

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".tar")
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
DIRECTORY_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_WRAPPERS = ("model", "state_dict", "model_ema", "state_dict_ema")  # first match wins
_PREFIXES = ("module.", "_orig_mod.")  # left by DataParallel and torch.compile
_LFS_MAGIC = b"version https://git-lfs"
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; InputError names the file when it cannot be read or holds something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path.name} is not readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path.name} holds a JSON {type(value).__name__}; expected an object")
    return value


def read_directory(directory: Path) -> dict[str, Tensor]:
    """The state dict of a Hugging Face or timm directory: the first of DIRECTORY_FILES that is there.

    Raises InputError when there is none, or when the index of a sharded checkpoint does not fit its shards.
    """
    for name in DIRECTORY_FILES:
        path = directory / name
        if path.is_file():
            return _read_shards(path) if name.endswith(".json") else read_file(path)
    raise InputError(f"the directory has no weights; expected one of {', '.join(DIRECTORY_FILES)}")


def _read_shards(index: Path) -> dict[str, Tensor]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise InputError(f"{index.name} has no weight_map of key to file name")
    state: dict[str, Tensor] = {}
    for name in sorted(set(weight_map.values())):
        if Path(name).name != name:
            raise InputError(f"{index.name} names {name!r}; a shard must lie beside the index")
        state |= read_file(index.parent / name)
    absent = sorted(set(weight_map) - set(state))
    if absent:
        raise InputError(f"{index.name} lists {len(absent)} keys that no shard has: {listed(absent, 8)}")
    return state


def read_file(path: Path) -> dict[str, Tensor]:
    """The state dict in one file, taken out of training wrappers, its keys without ``module.`` and ``_orig_mod.``.

    Raises InputError for a file that is absent, empty, truncated, of an unknown type, or that would run code.
    """
    _check_file(path)
    if path.suffix == ".safetensors":
        return _strip_prefixes(_read_safetensors(path))
    return _strip_prefixes(_unwrap(_read_torch(path), path.name))


def _check_file(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path.name}: unknown file type {path.suffix!r}; expected one of {', '.join(SUFFIXES)}")
    try:
        with path.open("rb") as file:
            head = file.read(len(_LFS_MAGIC))
    except OSError as error:
        raise InputError(f"{path.name}: cannot be read: {error.strerror}") from error
    if not head:
        raise InputError(f"{path.name}: the file is empty")
    if head == _LFS_MAGIC:
        raise InputError(f"{path.name}: this is a Git LFS pointer, not the weights; fetch them with: git lfs pull")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise InputError(f"{path.name}: truncated or not a safetensors file ({first_line(error)})") from error


def _read_torch(path: Path) -> object:
    """Unpickle only tensors, plain containers, and argparse.Namespace, which training scripts keep options in."""
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter(
                "ignore"
            )  # torch warns about old pickle protocols; everything that matters here raises
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, OSError) as error:
        text = str(error)
        if any(sign in text for sign in ("nsupported global", "nsupported GLOBAL", "TorchScript", "nsupported class")):
            raise InputError(
                f"{path.name}: refused, because loading it would run code stored in the file; "
                "save the tensors alone: torch.save(model.state_dict(), path)"
            ) from error
        raise InputError(f"{path.name}: truncated or not a torch checkpoint ({type(error).__name__})") from error


def _unwrap(value: object, name: str) -> dict[str, Tensor]:
    """The state dict inside training wrappers such as ``{"model": …, "optimizer": …}``."""
    while isinstance(value, Mapping):
        wrappers = [key for key in _WRAPPERS if isinstance(value.get(key), Mapping)]
        if not wrappers:
            return _only_tensors(value, name)
        if len(wrappers) > 1:
            logger.info("%s holds %s; taking %s", name, ", ".join(wrappers), wrappers[0])
        value = value[wrappers[0]]
    raise InputError(f"{name}: holds a {type(value).__name__}; expected a state dict (key -> tensor)")


def _only_tensors(value: Mapping[object, object], name: str) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for key, tensor in value.items():
        if not isinstance(key, str) or not isinstance(tensor, Tensor):
            raise InputError(f"{name}: key {key!r} holds a {type(tensor).__name__}; expected a tensor")
        state[key] = tensor
    return state


def _strip_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for _ in _PREFIXES:
        for prefix in _PREFIXES:
            if state and all(key.startswith(prefix) for key in state):
                state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def to_float32(key: str, tensor: Tensor) -> Tensor:
    """The tensor as dense float32 on the CPU.

    Raises InputError, naming ``key``, for integers, quantized and sparse tensors, NaN, infinity and negative variances.
    """
    if tensor.dtype not in _FLOATS:
        raise InputError(f"{key} has dtype {str(tensor.dtype).removeprefix('torch.')}; weights must be floating point")
    if tensor.layout is not torch.strided or tensor.device.type == "meta":
        raise InputError(f"{key} is not a dense tensor")
    tensor = tensor.detach().to(device="cpu", dtype=torch.float32)
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(f"{key} contains NaN or infinity")
    if key.endswith(".running_var") and bool((tensor < 0).any()):
        raise InputError(f"{key} contains a negative variance")
    return tensor


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and float32 values in key order: the same for equal weights in any file format."""
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(f"{key}{list(state[key].shape)}".encode())
        digest.update(state[key].detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
