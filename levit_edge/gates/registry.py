"""The gates by name, in the order in which reports list them: one dict."""

from __future__ import annotations

from levit_edge.gates.agreement import AGREEMENT
from levit_edge.gates.device_agreement import DEVICE_AGREEMENT
from levit_edge.gates.gate import Gate
from levit_edge.gates.size_ratio import SIZE_RATIO
from levit_edge.gates.speedup import SPEEDUP
from levit_edge.gates.top1_drop import TOP1_DROP

GATES: dict[str, Gate] = {gate.name: gate for gate in (TOP1_DROP, AGREEMENT, DEVICE_AGREEMENT, SIZE_RATIO, SPEEDUP)}
