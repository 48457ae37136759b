"""Kinds of instructions, against an independent disassembler."""

from __future__ import annotations

import struct

import capstone
from hypothesis import example, given, settings
from hypothesis import strategies as st

from levit_edge.devices.qemu.opcodes import count_kinds, kind_of, main_kind

MNEMONICS = {
    "sdot": {"sdot", "udot", "usdot", "sudot"},
    "smmla": {"smmla", "ummla", "usmmla"},
    "fmla": {"fmla", "fmls", "fmadd", "fmsub", "fnmadd", "fnmsub"},
    "smlal": {"smlal", "smlal2", "umlal", "umlal2", "smull", "smull2", "umull", "umull2"},
    "mla": {"mla"},
}
DISASSEMBLER = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)


def _decoded(opcode: int) -> tuple[str, str] | None:
    """(mnemonic, operands); None for what is no instruction."""
    for _, _, mnemonic, operands in DISASSEMBLER.disasm_lite(struct.pack("<I", opcode), 0):
        return mnemonic, operands
    return None


def _is_vector_or_scalar_float(mnemonic: str, operands: str) -> bool:
    """The integer SMULL and UMULL of general registers share a name with the vector ones."""
    return mnemonic not in ("smull", "umull") or operands.startswith("v")


# The top byte decides the group; the rest is drawn, so that every group is met.
WORDS = st.builds(
    lambda top, rest: top << 24 | rest,
    st.sampled_from([0x0E, 0x2E, 0x4E, 0x6E, 0x0F, 0x2F, 0x4F, 0x6F, 0x1F, 0x3D, 0xA9, 0x91, 0x54, 0x9B, 0x1E, 0xD6]),
    st.integers(0, 0xFFFFFF),
)


@settings(max_examples=2000, deadline=None)
@given(WORDS)
@example(0x4E829420)  # sdot v0.4s, v1.16b, v2.16b
@example(0x4F82E020)  # sdot v0.4s, v1.16b, v2.4b[0]
@example(0x4E22CC20)  # fmla v0.4s, v1.4s, v2.4s
@example(0x4F821020)  # fmla v0.4s, v1.4s, v2.s[0]
@example(0x0E5E0C00)  # fmla v0.4h, v0.4h, v30.4h
@example(0x0E228020)  # smlal v0.8h, v1.8b, v2.8b
@example(0x4E829400)  # sdot
@example(0x4E82A420)  # smmla
@example(0x4EA29420)  # mla v0.4s, v1.4s, v2.4s
def test_multiply_adds_are_those_of_the_disassembler(opcode: int) -> None:
    decoded = _decoded(opcode)
    if decoded is None:
        return
    mnemonic, operands = decoded
    expected = {kind for kind, names in MNEMONICS.items() if mnemonic in names}
    if not _is_vector_or_scalar_float(mnemonic, operands):
        expected = set()
    if mnemonic in ("smlal", "smull", "mla") or expected or kind_of(opcode) in MNEMONICS:
        assert {kind_of(opcode)} & set(MNEMONICS) == expected, f"{opcode:#010x} {mnemonic} {operands}"


@settings(max_examples=1000, deadline=None)
@given(WORDS)
def test_the_groups_are_those_of_the_disassembler(opcode: int) -> None:
    decoded = _decoded(opcode)
    if decoded is None:
        return
    mnemonic, kind = decoded[0], kind_of(opcode)
    if mnemonic.startswith(("ld", "st")):
        assert kind == "memory"
    if mnemonic in ("b", "bl", "br", "blr", "ret", "cbz", "cbnz", "tbz", "tbnz") or mnemonic.startswith("b."):
        assert kind == "branch"
    if mnemonic in ("add", "sub", "subs", "orr", "madd", "adrp") and decoded[1][0] in "xw":
        assert kind == "scalar"


def test_known_instructions() -> None:
    assert [kind_of(word) for word in (0x3DC00000, 0xD65F03C0, 0x91000400, 0x4E21D420)] == [
        "memory",
        "branch",
        "scalar",
        "vector",
    ]


def test_runs_are_weighed() -> None:
    counts: dict[str, int] = {}
    count_kinds(struct.pack("<III", 0x4E829420, 0x3DC00000, 0x3DC00000), 10, counts)
    count_kinds(struct.pack("<I", 0xD65F03C0), 1, counts)
    assert counts == {"sdot": 10, "memory": 20, "branch": 1}


def test_a_kernel_is_named_by_its_multiply_adds_even_when_loads_are_more() -> None:
    assert main_kind({"sdot": 10, "memory": 20, "branch": 1}) == "sdot"
    assert main_kind({"sdot": 1, "memory": 99}) == "memory"
    assert main_kind({"fmla": 10, "sdot": 20, "memory": 50}) == "sdot"
    assert main_kind({}) == "unknown"
