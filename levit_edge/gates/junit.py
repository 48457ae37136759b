"""Gate results as JUnit XML, which CI systems show beside the tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from levit_edge.report.schema import GateResult


def to_junit(results: Mapping[str, Sequence[GateResult]]) -> str:
    """One suite per target, one case per gate; a gate without a value is skipped. Same results, same text."""
    root = ET.Element("testsuites", name="levit-edge")
    for target, gates in results.items():
        suite = ET.SubElement(root, "testsuite", _counts(target, gates))
        for gate in gates:
            _add_case(suite, target, gate)
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document.decode() + "\n"


def _counts(target: str, gates: Sequence[GateResult]) -> dict[str, str]:
    outcomes = [gate.passed for gate in gates]
    return {
        "name": target,
        "tests": str(len(gates)),
        "failures": str(outcomes.count(False)),
        "errors": "0",
        "skipped": str(outcomes.count(None)),
    }


def _add_case(suite: ET.Element, target: str, gate: GateResult) -> None:
    case = ET.SubElement(suite, "testcase", classname=f"levit_edge.gates.{target}", name=gate.name)
    if gate.passed is None:
        ET.SubElement(case, "skipped", message=gate.note)
    elif not gate.passed:
        message = f"{gate.name} is {gate.value:g}, limit {gate.limit:g}"
        ET.SubElement(case, "failure", type="gate", message=message).text = gate.note
