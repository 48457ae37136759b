"""Tells from its encoding what kind of work an A64 instruction does.

Encodings: Arm Architecture Reference Manual for A-profile (DDI 0487), C4.1 "A64 instruction set encoding". Only the
classes that tell one kernel from another are distinguished; everything else is in one of the four main groups.
"""

from __future__ import annotations

from collections.abc import Sequence

# (kind, mask, value): the first match counts. Dot product and multiply-add forms are vector and by element.
_ARITHMETIC = (
    ("sdot", 0x9F20FC00, 0x0E009400),  # SDOT, UDOT
    ("sdot", 0x9F00F400, 0x0F00E000),
    ("sdot", 0xBFE0FC00, 0x0E809C00),  # USDOT, vector only
    ("sdot", 0xBF40F400, 0x0F00F000),  # USDOT, SUDOT
    ("smmla", 0xDFE0F400, 0x4E80A400),  # SMMLA, UMMLA, USMMLA
    ("fmla", 0xBF20FC00, 0x0E20CC00),  # FMLA, FMLS
    ("fmla", 0xBF60FC00, 0x0E400C00),  # FMLA, FMLS in half precision
    ("fmla", 0xBF00B400, 0x0F001000),
    ("fmla", 0xFF000000, 0x1F000000),  # FMADD and its kin, scalar
    ("smlal", 0x9F20FC00, 0x0E208000),  # SMLAL, UMLAL
    ("smlal", 0x9F20FC00, 0x0E20C000),  # SMULL, UMULL
    ("smlal", 0x9F00F400, 0x0F002000),
    ("smlal", 0x9F00F400, 0x0F00A000),
    ("mla", 0xBF20FC00, 0x0E209400),  # MLA
    ("mla", 0xBF00F400, 0x2F000000),
)
ARITHMETIC_KINDS = tuple(dict.fromkeys(kind for kind, _, _ in _ARITHMETIC))


def kind_of(opcode: int) -> str:
    """``sdot``, ``fmla``, ... for multiply-adds; else ``memory``, ``vector``, ``branch`` or ``scalar``."""
    for kind, mask, value in _ARITHMETIC:
        if opcode & mask == value:
            return kind
    group = opcode >> 25 & 0xF  # op0 of the top-level encoding
    if group & 0b0101 == 0b0100:
        return "memory"
    if group & 0b0111 == 0b0111:
        return "vector"
    return "branch" if group & 0b1110 == 0b1010 else "scalar"


def main_kind(counts: dict[str, int], least_share: float = 0.05) -> str:
    """The commonest multiply-add of a function if that is at least ``least_share`` of it, else its commonest kind."""
    total = sum(counts.values())
    if not total:
        return "unknown"
    arithmetic = [kind for kind in ARITHMETIC_KINDS if counts.get(kind, 0) >= least_share * total]
    return max(arithmetic or counts, key=lambda kind: counts.get(kind, 0))


def count_kinds(code: bytes, times: int, into: dict[str, int]) -> None:
    """Add ``times`` runs of the little-endian instructions in ``code`` to ``into``."""
    opcodes: Sequence[int] = memoryview(code).cast("I")
    for opcode in opcodes:
        kind = kind_of(opcode)
        into[kind] = into.get(kind, 0) + times
