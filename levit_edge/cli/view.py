"""The answers of the verbs as tables and lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table

from levit_edge.report.answers import (
    AddedDevice,
    BenchResult,
    DoctorReport,
    DoctorRow,
    Evaluation,
    GateCheck,
    Inspection,
    Prediction,
    Predictions,
)
from levit_edge.report.figures import (
    ABSENT,
    ACCURACY,
    DELEGATION,
    GATE_COLUMNS,
    INSTRUCTIONS,
    KERNEL_COLUMNS,
    LATENCY,
    closeness_text,
    gate_row,
    kernel_rows,
    text_rows,
)
from levit_edge.report.schema import GateResult, Report
from levit_edge.report.terminal import summary_table

if TYPE_CHECKING:  # needs torch, which a gate or a doctor does not
    from levit_edge.pipeline.diverge import Divergence, LayerRow

UNSEEN = ABSENT


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
    rows = text_rows(ACCURACY, result.accuracy)
    if result.local is not None:
        rows.append((f"agreement with {result.local.runtime} here", closeness_text(result.local)))
    yield _table(f"{result.bundle} ({result.target})", ("", ""), rows)
    if result.gates:
        yield _gate_table(f"gates: {result.verdict}", result.gates)


def bench(result: BenchResult) -> Iterator[RenderableType]:
    """One column per bundle, times or instructions; why one has no figures stands below."""
    counted = [row.instructions for row in result.rows if row.instructions is not None]
    what = "instructions per inference" if counted else "latency"
    columns = [
        dict(text_rows(INSTRUCTIONS, row.instructions) if counted else text_rows(LATENCY, row.latency))
        for row in result.rows
    ]
    figures = [(name, *(column[name] for column in columns)) for name in (columns[0] if columns else ())]
    yield _table(f"{what} on {result.device}", ("", *(row.bundle for row in result.rows)), figures)
    for row in result.rows:
        if row.instructions is not None:
            yield _table(f"{row.bundle}: where they go", KERNEL_COLUMNS, kernel_rows(row.instructions))
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
    totals = [
        ("model", f"{result.bundle}/{result.model_file}"),
        ("size", f"{result.size_bytes / 1e6:.2f} MB"),
        *text_rows(DELEGATION, result),
    ]
    yield _table(f"{result.bundle} ({result.target})", ("", ""), totals)
    kinds = [(row.name, row.precision, row.placement, str(row.count)) for row in result.operators]
    if kinds:
        yield _table("operators", ("operator", "precision", "placement", "count"), kinds)
    yield from (f"note: {note}" for note in result.notes)


def divergence(result: Divergence) -> Iterator[RenderableType]:
    """One row per layer, and a last line that names the first one that departs."""
    where = f"{result.runtime}{'' if result.executed else ', simulated'}"
    columns = ("", "kind", "layer", "SQNR to program", "SQNR by itself", "steps by itself", "SQNR to float", "")
    yield _table(f"{result.bundle} ({where}) on {result.image}", columns, [_layer_cells(row) for row in result.layers])
    if result.first is None:
        yield f"no layer departs from the quantized program: {len(result.layers)} compared"
    else:
        row = result.layers[result.first]
        yield f"departs first: layer {row.index}, {row.name} ({row.kind}): {row.departs}"


def _layer_cells(row: LayerRow) -> tuple[str, ...]:
    alone = row.local
    figures = (row.program.sqnr_db, alone.sqnr_db, row.float_sqnr_db)
    to_program, by_itself, to_float = (UNSEEN if value is None else f"{value:.1f} dB" for value in figures)
    by_itself = "equal" if alone.max_steps == 0 else by_itself
    steps = UNSEEN if alone.max_steps is None else f"{alone.max_steps:.1f}"
    mark = "departs" if row.departs else ""
    return str(row.index), row.kind, row.name, to_program, by_itself, steps, to_float, mark


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


def added_device(device: AddedDevice) -> Iterator[RenderableType]:
    """Where the machine is, what is in it, and what it cannot do."""
    packages = ", ".join(f"{name} {version}" for name, version in device.versions.items())
    yield f"{device.name}: {device.folder} ({device.size_bytes / 1e6:.0f} MB)"
    yield f"{device.name}: {packages}"
    if device.note:
        yield f"warning: {device.name}: {device.note}"


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
    return _table(title, GATE_COLUMNS, [gate_row(result) for result in results])


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
