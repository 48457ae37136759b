"""The answers of the verbs as tables and lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table

from levit_edge.report import GateResult, Report
from levit_edge.report_view import accuracy_rows, gate_row, latency_rows, summary_table
from levit_edge.results import (
    BenchResult,
    DoctorReport,
    DoctorRow,
    Evaluation,
    GateCheck,
    Inspection,
    Prediction,
    Predictions,
)

UNSEEN = "-"


def build(report: Report, out: Path) -> Iterator[RenderableType]:
    """The summary, the gates that failed, and where the files are."""
    yield summary_table(report)
    yield from (f"warning: {warning}" for warning in report.warnings)
    for name, target in report.targets.items():
        yield from (f"warning: {name}: {warning}" for warning in target.warnings)
        yield from _failures(name, target.gates)
    for target in report.targets.values():
        yield f"{out / target.bundle / target.model_file}"
    yield f"{out / 'report.md'}"


def evaluation(result: Evaluation) -> Iterator[RenderableType]:
    """The accuracy of one bundle, and its gates."""
    yield _table(f"{result.bundle} ({result.target})", ("", ""), accuracy_rows(result.accuracy))
    if result.gates:
        yield _gate_table(f"gates: {result.verdict}", result.gates)


def bench(result: BenchResult) -> Iterator[RenderableType]:
    """One column per bundle; why one has no figures stands below."""
    columns = [dict(latency_rows(row.latency)) for row in result.rows]
    figures = [(name, *(column[name] for column in columns)) for name in (columns[0] if columns else ())]
    yield _table(f"latency on {result.device}", ("", *(row.bundle for row in result.rows)), figures)
    yield from (f"{row.bundle}: {row.note}" for row in result.rows if row.note)


def gates(check: GateCheck) -> Iterator[RenderableType]:
    """One table per target, and a last line that says it all."""
    for name, results in check.targets.items():
        yield _gate_table(name, results)
    outcomes = [result.passed for results in check.targets.values() for result in results]
    counts = [outcomes.count(outcome) for outcome in (True, False, None)]
    yield "{} passed, {} failed, {} skipped".format(*counts)


def inspection(result: Inspection) -> Iterator[RenderableType]:
    """Totals, then the operators by kind."""
    delegates = UNSEEN if result.delegates is None else str(result.delegates)
    totals = [
        ("model", f"{result.bundle}/{result.model_file}"),
        ("size", f"{result.size_bytes / 1e6:.2f} MB"),
        ("delegates", delegates),
        ("operators, int8 / float / fallback", f"{result.int8_ops} / {result.float_ops} / {result.fallback_ops}"),
    ]
    yield _table(f"{result.bundle} ({result.target})", ("", ""), totals)
    kinds = [(row.name, row.precision, row.placement, str(row.count)) for row in result.operators]
    if kinds:
        yield _table("operators", ("operator", "precision", "placement", "count"), kinds)
    yield from (f"note: {note}" for note in result.notes)


def predictions(answer: Predictions) -> Iterator[RenderableType]:
    """A heading per image, then its labels, best first."""
    for image in answer.images:
        yield f"{image.image} ({image.runtime}{_simulated(image)})"
        yield from (f"  {score.probability_pct:6.2f} %  {score.label}" for score in image.top)


def doctor(report: DoctorReport) -> Iterator[RenderableType]:
    """Targets, devices, and below them what to do about those that do not work."""
    yield f"levit-edge {report.levit_edge}, Python {report.python}, {report.platform}"
    columns = ("", "builds", "runs", "packages")
    yield _table("targets", columns, [_doctor_cells(row) for row in report.rows if row.kind == "target"])
    devices = [(row.name, row.executes, row.note) for row in report.rows if row.kind == "device"]
    yield _table("devices", ("", "runs", "note"), devices)
    yield from (f"{row.name}: {row.note}" for row in report.rows if row.note and row.kind == "target")
    yield from (f"{row.name}: add it with: {row.fix}" for row in report.rows if row.fix)


def _doctor_cells(row: DoctorRow) -> tuple[str, ...]:
    packages = ", ".join(f"{name} {version or 'missing'}" for name, version in row.packages.items())
    return row.name, row.lowers or UNSEEN, row.executes, packages


def _simulated(image: Prediction) -> str:
    return "" if image.executed else ", simulated"


def _failures(target: str, results: Sequence[GateResult]) -> Iterator[str]:
    for result in results:
        if result.passed is False:
            note = f" ({result.note})" if result.note else ""
            yield f"failed: {target}: {result.name} is {result.value:.3f}, limit {result.limit:.3f}{note}"


def _gate_table(title: str, results: Sequence[GateResult]) -> Table:
    return _table(title, ("gate", "value", "limit", "result", "note"), [gate_row(result) for result in results])


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
