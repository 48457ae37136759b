"""Reading a saved program without letting the file run anything.

``torch.export.load`` (torch/export/pt2_archive/_package.py, torch/_export/serde/serialize.py) unpickles whatever an
archive declares as pickled, custom or opaque; loads its shared libraries; evaluates its symbolic sizes, guards and
names as Python; and calls any function of torch that a node names. A program of a build needs none of that. So an
archive passes only if it holds nothing but the records and operators that are listed here, and plain words as texts.
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

# Each computes its outputs from its arguments, and nothing else: it touches no file, process or Python object.
_ATEN = (
    "abs.default", "adaptive_avg_pool2d.default", "add.Scalar", "add.Tensor", "addmm.default", "amax.default",
    "_assert_tensor_metadata.default", "avg_pool2d.default", "batch_norm.default", "bmm.default", "cat.default",
    "chunk.default", "clamp.default", "clamp_max.default", "clamp_min.default", "clone.default",
    "constant_pad_nd.default", "contiguous.default", "conv1d.default", "conv2d.default", "conv2d.padding",
    "div.Scalar", "div.Tensor", "dropout.default", "elu.default", "erf.default", "exp.default", "expand.default",
    "expand_as.default", "flatten.using_ints", "gelu.default", "group_norm.default", "hardsigmoid.default",
    "hardswish.default", "hardtanh.default", "layer_norm.default", "leaky_relu.default", "linear.default",
    "log.default", "matmul.default", "max.dim", "max_pool2d.default", "maximum.default", "mean.default", "mean.dim",
    "minimum.default", "mm.default", "mul.Scalar", "mul.Tensor", "_native_batch_norm_legit_no_training.default",
    "neg.default", "pad.default", "permute.default", "pow.Tensor_Scalar", "prelu.default", "reciprocal.default",
    "relu.default", "relu6.default", "repeat.default", "reshape.default", "roll.default", "rsqrt.default",
    "rsub.Scalar", "scaled_dot_product_attention.default", "select.int", "sigmoid.default", "silu.default",
    "slice.Tensor", "softmax.int", "softplus.default", "split.Tensor", "split_with_sizes.default", "sqrt.default",
    "square.default", "squeeze.default", "squeeze.dim", "squeeze.dims", "stack.default", "sub.Scalar", "sub.Tensor",
    "sum.dim_IntList", "t.default", "tanh.default", "to.dtype", "transpose.int", "unbind.int", "unflatten.int",
    "unsqueeze.default", "var.correction", "view.default", "where.self",
)  # fmt: skip
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
    """Check the parts of ``entry`` that have a meaning of their own; yield the others, for the check of any value."""
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
    """Refuse the JSON document ``value`` unless every text in it is a plain word and every operator is listed."""
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
    """The program in ``data``, an archive of ``torch.export.save``, loaded only if nothing in it can run code.

    Raises ValueError, which names it, for an archive with anything that no build writes, and the errors of zip, JSON
    and torch for a damaged one. The check reads the same bytes through the same reader as the load.
    """
    from torch.export.pt2_archive import PT2ArchiveReader
    from torch.export.pt2_archive._package import load_pt2  # export.load would try an older, pickled format next

    with PT2ArchiveReader(io.BytesIO(data)) as reader:
        _check(reader)
    program: ExportedProgram = load_pt2(io.BytesIO(data)).exported_programs["model"]
    return program
