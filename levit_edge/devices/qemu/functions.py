"""Where the functions of a shared library begin, also when it is stripped of its symbols."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from elftools.elf.elffile import ELFFile
from numpy.typing import NDArray

_SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<u8"), ("size", "<u8")]
)
_FUNCTION = 2  # STT_FUNC
_TABLE_FORM = b"\x01\x1b\x03\x3b"  # version 1; frame pointer pcrel sdata4, count udata4, table datarel sdata4
_TABLE_START = 12
_RANGE_OFFSET = 12  # of the size, in a frame description entry with pcrel sdata4 pointers
_RETURN = 0xD65F03C0


@dataclass(frozen=True)
class Library:
    """``starts`` are the addresses where something begins, sorted; ``names`` what, by its symbol or its address.

    ``segments`` are (file offset, size, address) of what is mapped; ``content`` the file.
    """

    starts: tuple[int, ...]
    names: tuple[str, ...]
    segments: tuple[tuple[int, int, int], ...]
    content: bytes

    def function_at(self, file_offset: int) -> str:
        """The function that holds the code at that offset of the file."""
        for offset, size, address in self.segments:
            if offset <= file_offset < offset + size:
                index = bisect_right(self.starts, file_offset - offset + address) - 1
                return self.names[index] if index >= 0 else "start of the library"
        return "outside of every segment"


def read_library(path: Path) -> Library:
    """Functions by the symbol tables, by the unwind tables, which stripping leaves, and by the returns between those.

    Hand-written kernels are often in neither table: what lies between two functions is cut after each RET.
    """
    content = path.read_bytes()
    with path.open("rb") as file:
        elf = ELFFile(file)
        segments = tuple((s["p_offset"], s["p_filesz"], s["p_vaddr"]) for s in elf.iter_segments("PT_LOAD"))
        starts, ends = _unwound(elf, segments, content)
        symbols = _symbols(elf)
        known = np.union1d(starts, np.fromiter(symbols, dtype=np.int64))
        gaps = _cut_gaps(elf, ends[~np.isin(ends, known)], known)
    names = {int(start): f"function at {start:#x}" for start in starts}
    names |= {int(start): f"code at {start:#x}" for start in gaps}
    names |= symbols
    ordered = sorted(names)
    return Library(tuple(ordered), tuple(names[start] for start in ordered), segments, content)


def _symbols(elf: ELFFile) -> dict[int, str]:
    """Functions by address, from every symbol table that is left."""
    found = {}
    for section in (".symtab", ".dynsym"):
        table = elf.get_section_by_name(section)
        if table is None:
            continue
        entries = np.frombuffer(table.data(), dtype=_SYMBOL)
        strings = elf.get_section(table["sh_link"]).data()
        for entry in entries[(entries["info"] & 0xF == _FUNCTION) & (entries["value"] != 0)]:
            start = int(entry["name"])
            found[int(entry["value"])] = strings[start : strings.index(b"\0", start)].decode(errors="replace")
    return found


def _unwound(
    elf: ELFFile, segments: tuple[tuple[int, int, int], ...], content: bytes
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and ends of the functions in the unwind tables (Linux Standard Base, "Exception Frames")."""
    header: Any = elf.get_section_by_name(".eh_frame_hdr")
    nothing = np.empty(0, dtype=np.int64)
    if header is None or header.data()[:4] != _TABLE_FORM:
        return nothing, nothing
    data, base = header.data(), header["sh_addr"]
    count = int.from_bytes(data[8:_TABLE_START], "little")
    table = np.frombuffer(data, dtype="<i4", count=2 * count, offset=_TABLE_START).reshape(count, 2).astype(np.int64)
    starts, entries = (table + base).T  # both relative to the header
    sizes = [int.from_bytes(content[at : at + 4], "little") for at in _file_offsets(entries + _RANGE_OFFSET, segments)]
    return starts, starts + np.array(sizes, dtype=np.int64)


def _file_offsets(addresses: NDArray[np.int64], segments: tuple[tuple[int, int, int], ...]) -> list[int]:
    offsets = np.zeros_like(addresses)
    for offset, size, address in segments:
        inside = (addresses >= address) & (addresses < address + size)
        offsets[inside] = addresses[inside] - address + offset
    result: list[int] = offsets.tolist()
    return result


def _cut_gaps(elf: ELFFile, ends: NDArray[np.int64], known: NDArray[np.int64]) -> list[int]:
    """Starts of the pieces between each of ``ends`` and the next known start, cut after each RET."""
    code = elf.get_section_by_name(".text")
    if code is None:
        return []
    first, opcodes = code["sh_addr"], np.frombuffer(code.data()[: code["sh_size"] // 4 * 4], dtype="<u4")
    returns = first + 4 * np.flatnonzero(opcodes == _RETURN) + 4
    found = []
    for end in np.unique(ends):
        index = np.searchsorted(known, end)
        limit = known[index] if index < len(known) else first + code["sh_size"]
        found.append(int(end))
        found += returns[np.searchsorted(returns, end, "right") : np.searchsorted(returns, limit)].tolist()
    return found
