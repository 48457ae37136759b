"""Gate results as JUnit XML, which CI systems show beside the tests."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from levit_edge.report.figures import gate_line, gate_name
from levit_edge.report.gate_result import GateResult, shows
from levit_edge.report.policy import UndecidedPolicy

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2


def to_junit(results: Mapping[str, Sequence[GateResult]], undecided: UndecidedPolicy = "fail") -> str:
    """One suite per target, one case per gate. Same results, same text.

    A failed gate is a failure. An undecided one is an error, or skipped where ``undecided`` is ``warn``; one that does
    not apply is skipped. A target of which no gate passed, and a report without targets, has a case that is an error.
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
        if not shows(gates):
            case = ET.SubElement(suite, "testcase", classname=f"levit_edge.gates.{target}", name="any gate")
            ET.SubElement(case, "error", type="gate", message="no gate passed: nothing was shown")
    if not results:
        suite = ET.SubElement(root, "testsuite", name="report", tests="1", failures="0", errors="1", skipped="0")
        case = ET.SubElement(suite, "testcase", classname="levit_edge.gates", name="any target")
        ET.SubElement(case, "error", type="gate", message="the report has no target: nothing was shown")
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document.decode() + "\n"


def _counts(target: str, gates: Sequence[GateResult], kinds: Mapping[str, str]) -> dict[str, str]:
    found = [kinds.get(gate.outcome) for gate in gates]
    return {
        "name": target,
        "tests": str(len(gates) + (not shows(gates))),
        "failures": str(found.count("failure")),
        "errors": str(found.count("error") + (not shows(gates))),
        "skipped": str(found.count("skipped")),
    }


def _add_case(suite: ET.Element, target: str, gate: GateResult, kind: str | None) -> None:
    # GitLab drops a second case of the same name, so a gate on several devices is named with its device.
    case = ET.SubElement(suite, "testcase", classname=f"levit_edge.gates.{target}", name=gate_name(gate))
    if kind is not None:
        # GitLab shows the text of the element, others its message.
        text = NOT_XML.sub("?", gate_line(gate))
        ET.SubElement(case, kind, type="gate", message=f"{gate.outcome}: {gate.name}").text = text
