"""No saved program can run code: what a build writes is loaded, what could do anything is refused before it does."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from levit_edge.errors import InputError
from quantize.flow import trace
from targets.program import replay as tap
from targets.program.archive import OPERATORS
from tests.programs import micro, quantized
from tests.targets.models import CASES

GRAPH, SAMPLE = "models/model.json", "data/sample_inputs/model.pt"
WEIGHTS, CONSTANTS = "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"

Records = dict[str, bytes]


class _Touch:
    """Pickled, this is an order to create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def _saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _read(data: bytes) -> Records:
    """Every record by its name, without the folder that all of them are in."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def _write(records: Records, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in records.items():
            archive.writestr(f"program/{name}", data)
    return path


@pytest.fixture(scope="module")
def healthy() -> Records:
    buffer = io.BytesIO()
    torch.export.save(quantized("onnx"), buffer)
    return _read(buffer.getvalue())


def _edit(records: Records, name: str, change: Callable[[Any], None]) -> None:
    document = json.loads(records[name])
    change(document)
    records[name] = json.dumps(document).encode()


def _pickled_weight(records: Records, order: _Touch) -> None:
    name, data = next(iter(json.loads(records[WEIGHTS])["config"])), _saved(order)
    _edit(records, WEIGHTS, lambda document: document["config"][name].update(use_pickle=True))
    records["data/weights/weight_0"] = data


def _constant(path: str) -> Callable[[Records, _Touch], None]:
    def plant(records: Records, order: _Touch) -> None:
        entry = {"path_name": path, "is_param": False, "use_pickle": True, "tensor_meta": None}
        _edit(records, CONSTANTS, lambda document: document["config"].update(evil=entry))
        records[f"data/constants/{path}"] = pickle.dumps(order) if "opaque" in path else _saved(order)

    return plant


def _sample_inputs(records: Records, order: _Touch) -> None:
    records[SAMPLE] = _saved((order,))


def _legacy_weights(records: Records, order: _Touch) -> None:
    records["data/weights/model.pt"] = _saved({"w": order})


def _guard(records: Records, order: _Touch) -> None:
    code = f"__import__('pathlib').Path({str(order.path)!r}).touch() or True"
    _edit(records, GRAPH, lambda document: document.update(guards_code=[code]))


def _symbolic_size(records: Records, order: _Touch) -> None:
    code = f"__import__('pathlib').Path({str(order.path)!r}).touch() or 3"

    def change(document: Any) -> None:
        tensors = document["graph_module"]["graph"]["tensor_values"]
        next(iter(tensors.values()))["sizes"] = [{"as_expr": {"expr_str": code, "hint": None}}]

    _edit(records, GRAPH, change)


def _argument_name(records: Records, order: _Touch) -> None:
    name = f"x=__import__('pathlib').Path({str(order.path)!r}).touch()"
    records[GRAPH] = records[GRAPH].replace(b'"pixel_values"', json.dumps(name).encode())


def _function(records: Records, order: _Touch) -> None:
    node = {
        "target": "torch.save",
        "inputs": [{"name": "", "arg": {"as_string": text}, "kind": 1} for text in ("x", str(order.path))],
        "outputs": [],
        "metadata": {},
        "is_hop_single_tensor_return": None,
        "name": "save",
    }
    _edit(records, GRAPH, lambda document: document["graph_module"]["graph"]["nodes"].append(node))


def _library(records: Records, order: _Touch) -> None:
    records["data/aotinductor/model/model.so"] = str(order.path).encode()


ORDERS: dict[str, tuple[Callable[[Records, _Touch], None], str]] = {
    "pickled weight": (_pickled_weight, "a pickle for "),
    "pickled constant": (_constant("tensor_0"), "a pickle for 'evil'"),
    "opaque object": (_constant("opaque_obj_0"), "the record 'data/constants/opaque_obj_0'"),
    "custom object": (_constant("custom_obj_0"), "the record 'data/constants/custom_obj_0'"),
    "sample inputs": (_sample_inputs, "sample inputs that are not plain tensors"),
    "legacy weights": (_legacy_weights, "the record 'data/weights/model.pt'"),
    "guard": (_guard, "guards_code that is not empty"),
    "symbolic size": (_symbolic_size, "a symbolic size"),
    "argument name": (_argument_name, "the text "),
    "function": (_function, "the operator 'torch.save'"),
    "library": (_library, "the record 'data/aotinductor/model/model.so'"),
}
EXECUTED_BY_TORCH = ["pickled weight", "pickled constant", "opaque object", "sample inputs", "legacy weights", "guard"]
EXECUTED_BY_TORCH += ["symbolic size", "argument name"]


def _crafted(order: str, healthy: Records, folder: Path) -> tuple[Path, Path]:
    """(archive, the file that it wants to create)."""
    records, touched = dict(healthy), folder / "touched"
    ORDERS[order][0](records, _Touch(touched))
    return _write(records, folder / "program.pt2"), touched


@pytest.mark.parametrize("order", ORDERS)
def test_what_could_run_code_is_refused_before_it_does(order: str, healthy: Records, tmp_path: Path) -> None:
    path, touched = _crafted(order, healthy, tmp_path)
    with pytest.raises(InputError, match=r"program\.pt2 is not a torch program: it has ") as caught:
        tap.load(path)
    assert ORDERS[order][1] in str(caught.value) and "\n" not in str(caught.value)
    assert not touched.exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("order", EXECUTED_BY_TORCH)
def test_the_crafted_archives_do_run_code_in_torch(order: str, healthy: Records, tmp_path: Path) -> None:
    path, touched = _crafted(order, healthy, tmp_path)
    with contextlib.suppress(Exception):  # what it says afterwards does not matter
        torch.export.load(path).module()(micro().images[:1])
    assert touched.exists()


def test_an_unchanged_copy_of_an_archive_is_loaded(healthy: Records, tmp_path: Path) -> None:
    tap.load(_write(healthy, tmp_path / "program.pt2"))


@pytest.mark.parametrize(("name", "recipe"), CASES)
def test_the_programs_of_every_target_and_recipe_are_loaded(name: str, recipe: str, tmp_path: Path) -> None:
    program, path = quantized(name, recipe), tmp_path / "program.pt2"
    torch.export.save(program, path)
    image = micro().images[:1]
    assert torch.equal(tap.load(path).module()(image), program.module()(image))


class Computing(nn.Module):
    """A function of an image [1, 4, 8, 8]."""

    def __init__(self, compute: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.compute = compute

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(x)


PROGRAMS: dict[str, Callable[[Tensor], Tensor]] = {
    "norms": lambda x: F.group_norm(F.layer_norm(x, (8,)), 2) + F.batch_norm(x, x[0, :, 0, 0], x[0, :, 0, 1].abs()),
    "activations": lambda x: F.gelu(x, approximate="tanh") + F.silu(x) + x.sigmoid() + F.relu6(x) + x.erf() + x.tanh(),
    "arithmetic": lambda x: (x - 0.5) / 0.2 * (x * x + 1e-5).rsqrt() - (-x).exp() + x.clamp(0, 6) + (1 - x).abs(),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x) + (x @ x.transpose(2, 3)).softmax(-1) @ x,
    "pieces": lambda x: torch.cat([x[:, 0:2], x[:, :1].expand(-1, 2, -1, -1), *x.chunk(2, 1), *x.split([1, 3], 1)], 1),
    "rearrangements": lambda x: F.pad(torch.stack(x.unbind(1)).squeeze(1).roll((1, 1), (0, 1)), (1, 1)).contiguous(),
    "pooling": lambda x: F.avg_pool2d(x, 2) + F.max_pool2d(x, 2) + F.adaptive_avg_pool2d(x, 4) + x.mean((2, 3), True),
    "convolutions": lambda x: (
        F.conv2d(x, x[0, :, None, :7, :7], padding="same", groups=4) + F.dropout(x, 0.5, training=False)
    ),
    "types": lambda x: x.double().float().unsqueeze(0).amax((3, 4)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_operators_of_other_families_are_loaded(name: str, tmp_path: Path) -> None:
    image, path = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), tmp_path / "program.pt2"
    program = trace(Computing(PROGRAMS[name]), image)
    torch.export.save(program, path)
    assert torch.equal(tap.load(path).module()(image), program.module()(image))


def test_every_operator_that_is_admitted_exists_and_writes_to_none_of_its_arguments() -> None:
    for name in OPERATORS:
        library, operator, overload = name.removeprefix("torch.ops.").split(".")
        schema = getattr(getattr(getattr(torch.ops, library), operator), overload)._schema
        assert not schema.is_mutable, name


@pytest.mark.parametrize(
    "name", ["aten.from_file.default", "aten.relu_.default", "aten.einsum.default", "higher_order.cond"]
)
def test_other_operators_of_torch_are_refused(name: str, healthy: Records, tmp_path: Path) -> None:
    records = dict(healthy)
    _edit(
        records,
        GRAPH,
        lambda document: document["graph_module"]["graph"]["nodes"][0].update(target=f"torch.ops.{name}"),
    )
    with pytest.raises(
        InputError, match=rf"program\.pt2 is not a torch program: it has the operator 'torch\.ops\.{name}'"
    ):
        tap.load(_write(records, tmp_path / "program.pt2"))


def test_the_format_before_archives_is_refused(tmp_path: Path) -> None:
    path, touched = tmp_path / "program.pt2", tmp_path / "touched"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", "8.20")
        archive.writestr("serialized_exported_program.json", "{}")
        for name in ("serialized_state_dict.pt", "serialized_constants.pt", "serialized_example_inputs.pt"):
            archive.writestr(name, _saved({"w": _Touch(touched)}))
    with pytest.raises(InputError, match=r"program\.pt2 is not a torch program: "):
        tap.load(path)
    assert not touched.exists()
