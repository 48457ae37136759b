"""The plugin's file and the map of the guest's memory, as figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from levit_edge.devices.qemu.read_counts import Block, Region, count_of, kernels, parse_blocks, parse_maps
from levit_edge.errors import LevitEdgeError

MAPS = """\
400000-916000 r-xp 00000000 fe:00 2147605                                /usr/bin/python3.11
5500000000-5500001000 ---p 00000000 00:00 0
5501000000-5501020000 r-xp 00010000 fe:00 1                              /lib/with space.so.6
5501020000-5501030000 rw-p 00000000 00:00 0                              [stack]
"""


def test_phases_and_blocks_are_read() -> None:
    phases, blocks = parse_blocks(["phase 100", "phase 102", "block 5501000010 4 25"])
    assert phases == [100, 102] and blocks == [Block(0x5501000010, 4, 25)]
    assert blocks[0].executed == 100


def test_only_mapped_files_are_regions() -> None:
    assert parse_maps(MAPS.splitlines()) == [
        Region(0x400000, 0x916000, 0, Path("/usr/bin/python3.11")),
        Region(0x5501000000, 0x5501020000, 0x10000, Path("/lib/with space.so.6")),
    ]


def test_code_without_a_file_and_small_libraries_are_one_row_each(tmp_path: Path) -> None:
    small = Region(0x1000, 0x2000, 0, tmp_path / "absent.so")  # below the least share, so it is never opened
    blocks = [Block(0x9000, 10, 1000), Block(0xA000, 10, 1000), Block(0x1000, 1, 20)]
    first, second = kernels(blocks, [small], runs=2)
    assert (first.library, first.function, first.kind, first.instructions) == (
        "(no file)",
        "all of it",
        "unknown",
        10000,
    )
    assert (second.library, second.function, second.instructions) == ("absent", "all of it", 10)


def test_a_lost_inference_is_noticed(tmp_path: Path) -> None:
    blocks, maps = tmp_path / "blocks", tmp_path / "maps"
    blocks.write_text("phase 7\nblock 9000 7 1\n", encoding="utf-8")
    maps.write_text("", encoding="utf-8")
    assert count_of(blocks, maps, 1).instructions == (7,)
    with pytest.raises(LevitEdgeError, match="1 inferences were counted where 2 ran"):
        count_of(blocks, maps, 2)
