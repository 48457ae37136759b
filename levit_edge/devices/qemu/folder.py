"""Where the emulated machine lies on disk, and the record of what each of its parts was made from.

A part is the folder ``CACHE/qemu-arm64/parts/PART/``. Its record ``PART.json`` lies beside it and is written last, so
that a part without a record is one whose making was interrupted.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import platformdirs
from pydantic import Field, ValidationError

from levit_edge.bundle.files import clear_os_errors, json_text, write_text
from levit_edge.devices.qemu import NAME
from levit_edge.record import Record

CACHE_VARIABLE = "LEVIT_EDGE_CACHE"

SYSTEM = "system"  # the C library and Python
CORES = "cores"  # for each core model, the folder that its programs see as /


class Part(Record):
    """One part of the machine. ``wanted`` is what it was made from, ``files`` the SHA-256 of each package in it."""

    wanted: tuple[str, ...]
    files: dict[str, str]
    size_bytes: int = Field(ge=0)


def machine_folder() -> Path:
    """The folder of the emulated machine: below $LEVIT_EDGE_CACHE, or below the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    cache = Path(chosen).expanduser().absolute() if chosen else platformdirs.user_cache_path("levit-edge")
    return cache / NAME


def part_path(name: str) -> Path:
    """The folder of a part."""
    return machine_folder() / "parts" / name


def read_part(name: str) -> Part | None:
    """The record of a part; None where there is no complete one."""
    try:
        return Part.model_validate_json(_record(name).read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None


def make_part(name: str, wanted: tuple[str, ...], fill: Callable[[Path], dict[str, str]]) -> Part:
    """Keep the part if it is complete and made from ``wanted``; otherwise make it anew with ``fill(empty folder)``.

    ``fill`` gives the SHA-256 of every package it unpacked. The part appears whole or not at all.
    """
    found = read_part(name)
    if found is not None and found.wanted == wanted and part_path(name).is_dir():
        return found
    folder = part_path(name)
    staged = folder.with_name(f".{name}.staged")
    with clear_os_errors(machine_folder()):
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        part = Part(wanted=wanted, files=fill(staged), size_bytes=size_on_disk(staged))
        _record(name).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        staged.replace(folder)
        write_text(_record(name), json_text(part.model_dump(mode="json")))
    return part


def size_on_disk(folder: Path) -> int:
    """Bytes of all files below ``folder``, links not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def _record(name: str) -> Path:
    return part_path(name).with_suffix(".json")
