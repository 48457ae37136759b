"""The gates by name, in the order in which reports list them: one dict."""

from __future__ import annotations

from levit_edge.gates.agreement import AGREEMENT
from levit_edge.gates.contents import DELEGATES, FALLBACK_OPS, FLOAT_OPS, INT8_OPS
from levit_edge.gates.device_agreement import DEVICE_AGREEMENT
from levit_edge.gates.device_instructions import DEVICE_INSTRUCTIONS
from levit_edge.gates.gate import Gate
from levit_edge.gates.pinned import CALIBRATION, VERSIONS
from levit_edge.gates.program_match import PROGRAM_MATCH
from levit_edge.gates.size import SIZE_BYTES, SIZE_RATIO
from levit_edge.gates.speedup import SPEEDUP
from levit_edge.gates.sqnr import SQNR
from levit_edge.gates.top1_drop import TOP1_DROP

_ROWS = (
    TOP1_DROP,
    AGREEMENT,
    SQNR,
    PROGRAM_MATCH,
    DEVICE_AGREEMENT,
    DEVICE_INSTRUCTIONS,
    SIZE_RATIO,
    SIZE_BYTES,
    SPEEDUP,
    DELEGATES,
    INT8_OPS,
    FLOAT_OPS,
    FALLBACK_OPS,
    CALIBRATION,
    VERSIONS,
)

GATES: dict[str, Gate] = {gate.name: gate for gate in _ROWS}
