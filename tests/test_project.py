"""What the style guide promises about the code, counted."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.places import ROOT

PACKAGES = ("levit_edge", "calibration", "quantize", "targets")
SOURCES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_files_and_functions_are_short(source: Path) -> None:
    text = (ROOT / source).read_text(encoding="utf-8")
    assert len(text.splitlines()) < MAX_FILE_LINES
    long = [node.name for node in _functions(ast.parse(text)) if node.end_lineno - node.lineno >= MAX_FUNCTION_LINES]
    assert not long, f"{source}: longer than {MAX_FUNCTION_LINES} lines: {long}"


def test_the_wheel_holds_the_four_packages_and_their_types() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == list(PACKAGES)
    assert [package for package in PACKAGES if not (ROOT / package / "py.typed").is_file()] == []


def test_no_file_is_named_after_the_library_it_wraps() -> None:
    libraries = {"coremltools", "executorch", "numpy", "onnx", "onnxruntime", "onnxscript", "torch", "torchao"}
    assert [source for source in SOURCES if source.stem in libraries] == []
