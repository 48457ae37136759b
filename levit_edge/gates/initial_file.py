"""A gates file to start from: every limit that holds for a report today, beside what the report measured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from levit_edge.gates.check_bundle import check
from levit_edge.gates.check_report import figures_of
from levit_edge.gates.gate import Limit
from levit_edge.gates.gates_file import OFF, SCHEMA_VERSION, Regression
from levit_edge.gates.registry import GATES
from levit_edge.gates.resolve_limits import Limits
from levit_edge.report.figures import gate_value
from levit_edge.report.policy import IDENTITIES
from levit_edge.report.schema import Report

_HEAD = f"""\
# Limits of levit-edge: `levit-edge gate REPORT --gates THIS_FILE`; `build` and `eval` take --gates too.
# A limit that is not named keeps its default; "{OFF}" removes the gate. Lines that start with # have no effect.
schema_version = {SCHEMA_VERSION}

# What a gate counts as that the images cannot decide: "fail", or "warn".
undecided = "fail"
"""


def initial_file(report: Report, limits: Mapping[str, Limits]) -> str:
    """The text of a gates file under which ``report`` has the verdicts that it has without it.

    ``limits`` has those of every target in the report. Gates that are off are there as comments.
    """
    lines = [_HEAD]
    for name, target in report.targets.items():
        found = {result.name: gate_value(result) for result in check(figures_of(target, report), limits[name])}
        lines += [f"[targets.{name}.limits]", *_limit_lines(limits[name].bundle, found), ""]
    lines += ["# Against the report that --baseline names: how much worse a figure may be.", "[regression]"]
    lines += [f"# accept_difference = []  # any of: {', '.join(IDENTITIES)}"]
    tolerances = Regression().model_dump(exclude={"accept_difference"})
    lines += [f"{name} = {value:g}" for name, value in tolerances.items()]
    return "\n".join(lines) + "\n"


def _limit_lines(table: Mapping[str, Limit | None], found: Mapping[str, str]) -> Iterator[str]:
    for gate in GATES.values():
        limit = table[gate.limit]
        measured = f"; now {found[gate.name]}" if gate.name in found else ""
        setting = f"# {gate.limit} = ..." if limit is None else f"{gate.limit} = {_toml(limit)}"
        yield f"{setting}  # {gate.help}{measured}"


def _toml(limit: Limit) -> str:
    """Numbers and texts are written as in JSON; a table of texts is not."""
    if isinstance(limit, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in limit.items()) + " }"
    return json.dumps(limit)
