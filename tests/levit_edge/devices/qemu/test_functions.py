"""Functions of a stripped library, against the symbols of the same library before it was stripped."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from levit_edge.devices.qemu.functions import read_library

SOURCE = r"""
static int helper(int x) { volatile int s = 0; for (int i = 0; i < x; i++) s += i * x; return s; }
int visible(int x) { return helper(x) + 1; }
__attribute__((visibility("hidden"))) int hidden(int x) { return helper(x + 2) * 3; }
int other(int x) { return hidden(x) - visible(x); }
"""
NAMES = ("helper", "visible", "hidden", "other")


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(with symbols, stripped)"""
    if shutil.which("gcc") is None or shutil.which("strip") is None:
        pytest.skip("needs gcc and strip")
    folder = tmp_path_factory.mktemp("library")
    (folder / "code.c").write_text(SOURCE, encoding="utf-8")
    full, stripped = folder / "full.so", folder / "stripped.so"
    subprocess.run(["gcc", "-O1", "-fno-inline", "-shared", "-fPIC", "-o", full, folder / "code.c"], check=True)
    subprocess.run(["strip", "-o", stripped, full], check=True)
    return full, stripped


def _addresses(library: Path) -> dict[str, int]:
    lines = subprocess.run(["nm", library], capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line.split() for line in lines]
    return {row[2]: int(row[0], 16) for row in rows if len(row) == 3 and row[2] in NAMES}


def _file_offset(library: Path, address: int) -> int:
    return next(
        address - start + offset
        for offset, size, start in read_library(library).segments
        if start <= address < start + size
    )


def test_symbols_name_functions(libraries: tuple[Path, Path]) -> None:
    full, _ = libraries
    library, addresses = read_library(full), _addresses(full)
    assert set(addresses) == set(NAMES)
    for name, address in addresses.items():
        assert library.function_at(_file_offset(full, address)) == name
        assert library.function_at(_file_offset(full, address) + 1) == name


def test_unwind_tables_tell_functions_apart_without_symbols(libraries: tuple[Path, Path]) -> None:
    full, stripped = libraries
    library, addresses = read_library(stripped), _addresses(full)
    found = {name: library.function_at(_file_offset(stripped, address)) for name, address in addresses.items()}
    assert found["visible"] == "visible" and found["other"] == "other"  # exported, so they keep their names
    assert found["helper"] == f"function at {addresses['helper']:#x}"
    assert found["hidden"] == f"function at {addresses['hidden']:#x}"


def test_an_offset_outside_of_the_code_has_no_function(libraries: tuple[Path, Path]) -> None:
    library = read_library(libraries[0])
    assert library.function_at(1 << 40) == "outside of every segment"
