"""Reading a saved program without letting the file run anything.

``torch.export.load`` (torch/export/pt2_archive/_package.py, torch/_export/serde/serialize.py) unpickles whatever an
archive declares as pickled, custom or opaque; loads its shared libraries; evaluates its symbolic sizes, guards and
names as Python; and calls any function of torch that a node names. A program of a build has none of that, so an archive
passes only if it is made of what the exporter writes: records and operators that are listed here, and plain words.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.export import ExportedProgram

if TYPE_CHECKING:
    from torch.export.pt2_archive import PT2ArchiveReader

_GRAPH, _SAMPLE = "models/model.json", "data/sample_inputs/model.pt"
_PAYLOADS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_RECORDS = re.compile(
    "|".join(map(re.escape, (_GRAPH, _SAMPLE, *_PAYLOADS, "archive_format", "archive_version", "byteorder")))
    + r"|\.data/(version|serialization_id)|data/weights/weight_\d+|data/constants/tensor_\d+",
    re.ASCII,
)
_PAYLOAD_NAME = re.compile(r"(weight|tensor)_\d+", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9_.]*")  # no call, no quote, no operator: nothing that Python would do
_LINE = re.compile(r"[^\r\n\f\v\x1c-\x1e\x85\u2028\u2029]*")
_SPEC_TYPES = (None, "builtins.tuple", "builtins.list", "builtins.dict")
_EMPTY_CONTEXTS = (None, "null", "[]")
_SYMBOLIC = {"as_expr", "expr_str"}
_ONLY_EMPTY = ("guards_code", "range_constraints", "custom_obj_values", "treespec_namedtuple_fields")
_METADATA = {"nn_module_stack", "torch_fn"}

_ATEN = (
    "add.Tensor",
    "bmm.default",
    "conv2d.default",
    "flatten.using_ints",
    "hardswish.default",
    "linear.default",
    "mean.dim",
    "mul.Tensor",
    "permute.default",
    "reshape.default",
    "softmax.int",
    "transpose.int",
    "unflatten.int",
    "view.default",
)
_QUANTIZED = (
    "dequantize_per_channel.default",
    "dequantize_per_tensor.default",
    "quantize_per_channel.default",
    "quantize_per_tensor.default",
)
OPERATORS = frozenset(
    [f"torch.ops.aten.{name}" for name in _ATEN] + [f"torch.ops.quantized_decomposed.{name}" for name in _QUANTIZED]
)


def _refuse_unless(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"it has {what}, which no build writes and which could run code; build the bundle again")


def _check_word(text: str) -> None:
    _refuse_unless(bool(_WORD.fullmatch(text)), f"the text {text[:40]!r}")


def _check_spec(text: str) -> None:
    """The structure of arguments or results: nested builtins without a context, as JSON in a string."""

    def check(spec: dict[str, Any]) -> None:
        known = spec["type"] in _SPEC_TYPES and spec["context"] in _EMPTY_CONTEXTS
        _refuse_unless(known and set(spec) == {"type", "context", "children_spec"}, f"arguments of {str(spec)[:40]!r}")
        for child in spec["children_spec"]:
            check(child)

    _, root = json.loads(text)
    check(root)


def _check_metadata(node: dict[str, Any]) -> None:
    metadata = node["metadata"]
    plain = all(isinstance(text, str) and _LINE.fullmatch(text) for text in metadata.values())
    _refuse_unless(set(metadata) <= _METADATA and plain, f"metadata {str(sorted(metadata))[:60]}")


def _children(entry: dict[str, Any]) -> Iterator[Any]:
    """What is to be checked of an entry as any other value; the rest is checked here, by its meaning."""
    if "target" in entry:
        _refuse_unless(entry["target"] in OPERATORS, f"the operator {str(entry['target'])[:60]!r}")
        _check_metadata(entry)
    for key, value in entry.items():
        _check_word(key)
        _refuse_unless(key not in _SYMBOLIC, "a symbolic size")
        _refuse_unless(key not in _ONLY_EMPTY or not value, f"{key} that is not empty")
        if key in ("in_spec", "out_spec"):
            _check_spec(value)
        elif not (key == "metadata" and "target" in entry) and key != "torch_version":
            yield value


def _check_values(value: Any) -> None:
    """Every text of the JSON document ``value`` is a word, and every operator is known."""
    if isinstance(value, str):
        _check_word(value)
    elif isinstance(value, list | dict):
        for child in _children(value) if isinstance(value, dict) else value:
            _check_values(child)


def _check_payloads(config: dict[str, Any]) -> None:
    for name, entry in config["config"].items():
        _refuse_unless(entry["use_pickle"] is False, f"a pickle for {name[:40]!r}")
        path = entry["path_name"]
        _refuse_unless(bool(_PAYLOAD_NAME.fullmatch(path)), f"the object {path[:40]!r} for {name[:40]!r}")
    _check_values(config)


def _check(reader: PT2ArchiveReader) -> None:
    for name in reader.get_file_names():
        _refuse_unless(bool(_RECORDS.fullmatch(name)), f"the record {name[:60]!r}")
    for name in _PAYLOADS:
        _check_payloads(json.loads(reader.read_string(name)))
    _check_values(json.loads(reader.read_string(_GRAPH)))
    try:
        torch.load(io.BytesIO(reader.read_bytes(_SAMPLE)), weights_only=True)
    except Exception:  # noqa: BLE001  # pickle, zip and torch errors alike
        _refuse_unless(False, "sample inputs that are not plain tensors")


def load(data: bytes) -> ExportedProgram:
    """The program in ``data``, an archive of ``torch.export.save``, once nothing in it can run code.

    Raises ValueError, which names it, for an archive with anything that no build writes, and the errors of zip, JSON
    and torch for a damaged one. The check reads the same bytes through the same reader as the load.
    """
    from torch.export.pt2_archive import PT2ArchiveReader
    from torch.export.pt2_archive._package import load_pt2  # export.load would try an older, pickled format next

    with PT2ArchiveReader(io.BytesIO(data)) as reader:
        _check(reader)
    program: ExportedProgram = load_pt2(io.BytesIO(data)).exported_programs["model"]
    return program
