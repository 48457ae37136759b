"""The cores: their names, and what a program that runs on one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from levit_edge.devices.qemu.cpus import DEFAULT_CPU, cpu_model, cpu_names, write_prefix
from levit_edge.errors import InputError

# Arm's technical reference manuals, and Linux' arch/arm64/include/asm/cputype.h.
PARTS = {"cortex-a53": 0xD03, "cortex-a72": 0xD08, "cortex-a76": 0xD0B, "neoverse-n1": 0xD0C}
HAS_DOT_PRODUCT = {"cortex-a76", "neoverse-n1"}  # FEAT_DotProd is optional from Armv8.2 on


def _fields(text: str) -> dict[str, str]:
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines() if line)}


@pytest.mark.parametrize("name", PARTS)
def test_a_core_says_who_it_is(name: str) -> None:
    fields = _fields(cpu_model(name).cpuinfo)
    assert int(fields["CPU part"], 16) == PARTS[name]
    assert (fields["CPU implementer"], fields["CPU architecture"]) == ("0x41", "8")
    assert ("asimddp" in fields["Features"].split()) == (name in HAS_DOT_PRODUCT)


def test_variant_and_revision_are_cut_out_of_the_register() -> None:
    fields = _fields(cpu_model("cortex-a76").cpuinfo)  # MIDR 0x414fd0b1 is r4p1
    assert (fields["CPU variant"], fields["CPU revision"]) == ("0x4", "1")


def test_the_names_are_those_of_the_documentation() -> None:
    assert cpu_names() == tuple(PARTS) and DEFAULT_CPU == "cortex-a76"
    assert cpu_model("a72") is cpu_model("cortex-a72")


@pytest.mark.parametrize("name", ["max", "", "cortex", "A76"])
def test_another_name_is_refused_with_the_valid_ones(name: str) -> None:
    with pytest.raises(InputError, match=r"unknown CPU model .*; valid: cortex-a53, .*neoverse-n1"):
        cpu_model(name)


def test_a_prefix_is_the_system_with_its_own_proc(tmp_path: Path) -> None:
    root, staged, prefix = tmp_path / "root", tmp_path / "staged", tmp_path / "prefix"
    (root / "usr" / "bin").mkdir(parents=True)
    (root / "usr" / "bin" / "python").write_text("hello", encoding="utf-8")
    write_prefix(staged, root, cpu_model("a53"))
    staged.replace(prefix)  # as the parts of the machine are put in place
    assert (prefix / "usr" / "bin" / "python").read_text(encoding="utf-8") == "hello"
    assert "0xd03" in (prefix / "proc" / "cpuinfo").read_text(encoding="utf-8")
    identity = prefix / "sys" / "devices" / "system" / "cpu" / "cpu0" / "regs" / "identification" / "midr_el1"
    assert int(identity.read_text(encoding="utf-8"), 16) == 0x410FD034
    assert not (root / "proc").exists()
