"""A gates file to start from: every limit that holds for a report today, beside what the report measured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from levit_edge.gates.check_bundle import check
from levit_edge.gates.check_report import figures_of
from levit_edge.gates.gate import Limit
from levit_edge.gates.gates_file import OFF, SCHEMA_VERSION, GatesFile, Regression, Table
from levit_edge.gates.registry import GATES
from levit_edge.gates.resolve_limits import Limits, default_limits
from levit_edge.report.figures import gate_value
from levit_edge.report.policy import IDENTITIES
from levit_edge.report.schema import Report

_HEAD = f"""\
# Limits of levit-edge: `levit-edge gate REPORT --gates THIS_FILE`; `build` and `eval` take --gates too.
# A limit that is not named keeps its default; "{OFF}" removes the gate. Lines that start with # have no effect.
schema_version = {SCHEMA_VERSION}

# Whether an undecided gate fails the run ("fail") or only warns ("warn").
undecided = "{{undecided}}"
"""


def initial_file(report: Report, limits: Mapping[str, Limits], file: GatesFile) -> str:
    """The text of a gates file under which ``report`` has the verdicts that it has under ``file``.

    ``limits`` has those of every target in the report. Gates that have no limit are there as comments.
    """
    lines = [_HEAD.format(undecided=file.undecided)]
    for name, target in report.targets.items():
        found = {result.name: gate_value(result) for result in check(figures_of(target, report), limits[name])}
        default = default_limits(target.recipe_base or target.recipe, {})
        lines += [f"[targets.{name}.limits]", *_limit_lines(limits[name].bundle, default, found), ""]
        own = file.targets[name].devices if name in file.targets else {}
        lines += _device_lines(f"targets.{name}.devices", own)
        lines += ["# Against the report that --baseline names: how much worse a figure may be."]
        lines += [f"[targets.{name}.regression]", *_regression_lines(file.regression_of(name)), ""]
    lines += _device_lines("devices", file.devices)
    return "\n".join(lines) + "\n"


def _device_lines(place: str, devices: Mapping[str, Table]) -> Iterator[str]:
    for device, table in devices.items():
        yield f"[{place}.{json.dumps(device)}]"
        yield from (f"{limit} = {_toml(value)}" for limit, value in table.items())
        yield ""


def _limit_lines(table: Table, default: Table, found: Mapping[str, str]) -> Iterator[str]:
    for gate in GATES.values():
        limit = table[gate.limit]
        measured = f"; now {found[gate.name]}" if gate.name in found else ""
        setting = f"{gate.limit} = {_toml(limit)}"
        if limit is None and default[gate.limit] is None:
            setting = f"# {gate.limit} = ..."
        yield f"{setting}  # {gate.help}{measured}"


def _regression_lines(settings: Regression) -> Iterator[str]:
    yield f"accept_difference = {json.dumps(settings.accept_difference)}  # any of: {', '.join(IDENTITIES)}"
    for name, value in settings.model_dump(exclude={"accept_difference"}).items():
        yield f"{name} = {value:g}"


def _toml(limit: Limit | None) -> str:
    """Numbers and texts are written as in JSON; a table of texts is not."""
    if isinstance(limit, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in limit.items()) + " }"
    return json.dumps(OFF if limit is None else limit)
