"""Reads what the counting plugin wrote: instructions of each inference, and the functions that they belong to."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from levit_edge.devices.device import Count, Kernel
from levit_edge.devices.qemu.functions import Library, read_library
from levit_edge.devices.qemu.opcodes import count_kinds, main_kind
from levit_edge.errors import LevitEdgeError

INSTRUCTION_BYTES = 4
UNMAPPED = Path("(no file)")
LEAST_SHARE = 0.005


@dataclass(frozen=True)
class Region:
    """A part of a file that is mapped into the guest's memory."""

    start: int
    end: int
    offset: int
    path: Path


@dataclass(frozen=True)
class Block:
    """A block of code that the emulator translated as a whole, and how often it ran."""

    address: int
    instructions: int
    times: int

    @property
    def executed(self) -> int:
        return self.instructions * self.times


def count_of(blocks_file: Path, maps_file: Path, runs: int) -> Count:
    """What ``runs`` inferences executed; LevitEdgeError when the plugin saw another number of them."""
    phases, blocks = parse_blocks(blocks_file.read_text(encoding="utf-8").splitlines())
    if len(phases) != runs:
        raise LevitEdgeError(f"{len(phases)} inferences were counted where {runs} ran")
    mappings = parse_maps(maps_file.read_text(encoding="utf-8").splitlines())
    return Count(tuple(phases), tuple(kernels(blocks, mappings, runs)))


def parse_blocks(lines: Iterable[str]) -> tuple[list[int], list[Block]]:
    """(instructions of each phase, blocks) of the plugin's lines."""
    phases, blocks = [], []
    for line in lines:
        word, *fields = line.split()
        if word == "phase":
            phases.append(int(fields[0]))
        else:
            blocks.append(Block(int(fields[0], 16), int(fields[1]), int(fields[2])))
    return phases, blocks


def parse_maps(lines: Iterable[str]) -> list[Region]:
    """The mapped files in /proc/self/maps (proc(5)), by address."""
    found = []
    for line in lines:
        row = line.split(maxsplit=5)
        if len(row) == 6 and row[5].startswith("/"):
            start, end = (int(word, 16) for word in row[0].split("-"))
            found.append(Region(start, end, int(row[2], 16), Path(row[5].rstrip())))
    return sorted(found, key=lambda mapping: mapping.start)


def kernels(blocks: Iterable[Block], mappings: list[Region], runs: int) -> list[Kernel]:
    """Every function that ran, largest first, with its instructions in one of ``runs`` inferences.

    A library with less than LEAST_SHARE of all instructions is one row, "all of it": some are large and slow to read,
    and nobody tunes them.
    """
    placed = [(block, _mapping_of(block, mappings)) for block in blocks]
    per_file: dict[Path, int] = defaultdict(int)
    for block, mapping in placed:
        per_file[mapping.path if mapping else UNMAPPED] += block.executed
    least = LEAST_SHARE * sum(per_file.values())
    libraries = {path: read_library(path) for path, size in per_file.items() if size >= least and path != UNMAPPED}
    executed: dict[tuple[str, str], int] = defaultdict(int)
    kinds: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for block, mapping in placed:
        function, code = ("all of it", b"") if mapping is None else _function_of(block, mapping, libraries)
        path = mapping.path if mapping else UNMAPPED
        name = path.name.partition(".")[0], function  # ``libc`` for ``libc.so.6``
        executed[name] += block.executed
        count_kinds(code, block.times, kinds[name])
    found = [
        Kernel(library, function, main_kind(kinds[library, function]), round(total / runs))
        for (library, function), total in executed.items()
    ]
    return sorted(found, key=lambda kernel: (-kernel.instructions, kernel.library, kernel.function))


def _mapping_of(block: Block, mappings: list[Region]) -> Region | None:
    index = bisect_right(mappings, block.address, key=lambda mapping: mapping.start) - 1
    return mappings[index] if index >= 0 and block.address < mappings[index].end else None


def _function_of(block: Block, mapping: Region, libraries: Mapping[Path, Library]) -> tuple[str, bytes]:
    """(function, the bytes of the block's instructions)."""
    if mapping.path not in libraries:
        return "all of it", b""
    library = libraries[mapping.path]
    offset = block.address - mapping.start + mapping.offset
    return library.function_at(offset), library.content[offset : offset + block.instructions * INSTRUCTION_BYTES]
