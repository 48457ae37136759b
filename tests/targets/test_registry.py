"""The registry: three targets, everything the flow asks of them, and the same bytes from another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from levit_edge.bundle.files import sha256_path
from levit_edge.errors import InputError
from quantize.scheme import Role
from targets.registry import TARGETS, target
from targets.target import operator_rows
from tests.places import ROOT
from tests.programs import FULL
from tests.targets.conftest import Written

_LOWER = """
import json, sys, torch
from pathlib import Path
torch.set_num_threads(1)
from levit_edge.bundle.files import sha256_path
from targets.registry import TARGETS
from tests.programs import quantized, FULL
hashes = {}
for name in sys.argv[2:]:
    path = Path(sys.argv[1], TARGETS[name].model_file)
    TARGETS[name].backend.lower(quantized(name), path, True)
    hashes[name] = [sha256_path(file) for file in sorted(path.parent.glob(path.stem + ".*"))]
    for file in path.parent.glob("model.*"):
        file.rename(file.with_name(f"{name}-{file.name}"))
Path(sys.argv[1], "hashes.json").write_text(json.dumps(hashes))
"""


def test_each_target_has_its_own_names_for_its_files() -> None:
    rows = {name: (row.name, row.model_file, row.reference_file) for name, row in TARGETS.items()}
    assert rows == {
        "executorch": ("executorch", "model.pte", "model.fp32.pte"),
        "coreml": ("coreml", "model.mlpackage", "model.fp32.mlpackage"),
        "onnx": ("onnx", "model.onnx", "model.fp32.onnx"),
    }


@pytest.mark.parametrize("name", TARGETS)
def test_a_scheme_requires_only_what_it_stores(name: str) -> None:
    scheme = target(name).scheme
    assert scheme.required <= scheme.stored
    assert {Role.IMAGE, Role.LAYER} <= scheme.stored
    assert (scheme.quant_min, scheme.quant_max) == ((-128, 127) if scheme.activation_dtype == "int8" else (0, 255))


@pytest.mark.parametrize("name", TARGETS)
def test_versions_name_every_package(name: str) -> None:
    versions = target(name).versions()
    assert {"torch", "torchao", *target(name).builds_with, *target(name).runs_with} == set(versions) and all(
        versions.values()
    )


def test_an_unknown_target_is_refused_with_the_valid_names() -> None:
    with pytest.raises(InputError, match=r"unknown target 'android'; valid: executorch, coreml, onnx"):
        target("android")


def test_operator_rows_are_counted_and_sorted() -> None:
    rows = operator_rows([("b", "float", "runtime"), ("a", "int8", "delegate"), ("b", "float", "runtime")])
    assert [(row.name, row.precision, row.count) for row in rows] == [("a", "int8", 1), ("b", "float", 2)]


@pytest.mark.parametrize(
    "names", [pytest.param(names, marks=pytest.mark.slow) for names in (("onnx", "coreml"), ("executorch",))]
)
def test_another_process_with_another_hash_seed_writes_the_same_bytes(
    names: tuple[str, ...], written: Written, tmp_path: Path
) -> None:
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", _LOWER, str(tmp_path), *names]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "hashes.json").read_text())
    for name in names:
        path = written(name, FULL.name)
        assert found[name] == [sha256_path(file) for file in sorted(path.parent.glob("model.*"))]


def test_the_records_are_read_without_torch_or_any_converter() -> None:
    heavy = ("torch", "torchao", "executorch", "coremltools", "onnx", "onnxscript", "onnxruntime")
    program = f"import sys, targets.registry; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
