"""Gate results as JUnit XML, which CI systems show beside the tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from levit_edge.report.figures import gate_line
from levit_edge.report.gate_result import GateResult
from levit_edge.report.policy import UndecidedPolicy


def to_junit(results: Mapping[str, Sequence[GateResult]], undecided: UndecidedPolicy = "fail") -> str:
    """One suite per target, one case per gate. Same results, same text.

    A failed gate is a failure. An undecided one is an error, or skipped where ``undecided`` is ``warn``; one that does
    not apply is skipped.
    """
    root = ET.Element("testsuites", name="levit-edge")
    kinds = {
        "failed": "failure",
        "not applicable": "skipped",
        "undecided": "error" if undecided == "fail" else "skipped",
    }
    for target, gates in results.items():
        suite = ET.SubElement(root, "testsuite", _counts(target, gates, kinds))
        for gate in gates:
            _add_case(suite, target, gate, kinds.get(gate.outcome))
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document.decode() + "\n"


def _counts(target: str, gates: Sequence[GateResult], kinds: Mapping[str, str]) -> dict[str, str]:
    found = [kinds.get(gate.outcome) for gate in gates]
    return {
        "name": target,
        "tests": str(len(gates)),
        "failures": str(found.count("failure")),
        "errors": str(found.count("error")),
        "skipped": str(found.count("skipped")),
    }


def _add_case(suite: ET.Element, target: str, gate: GateResult, kind: str | None) -> None:
    # GitLab drops a second case of the same name, so a gate on several devices is named with its device.
    name = gate.name if gate.device is None else f"{gate.name} {gate.device}"
    case = ET.SubElement(suite, "testcase", classname=f"levit_edge.gates.{target}", name=name)
    if kind is not None:
        # GitLab shows the text of the element, others its message.
        ET.SubElement(case, kind, type="gate", message=f"{gate.outcome}: {gate.name}").text = gate_line(gate)
