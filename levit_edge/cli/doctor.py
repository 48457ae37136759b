"""``levit-edge doctor``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from levit_edge import __version__
from levit_edge.cli.verb import Verb
from levit_edge.pipeline.options import DoctorOptions
from levit_edge.progress import Progress

if TYPE_CHECKING:  # the help does not wait for what only an answer needs
    from rich.console import RenderableType

    from levit_edge.report.answers import DoctorReport, DoctorRow


def _run(options: DoctorOptions, progress: Progress) -> DoctorReport:
    from levit_edge.devices import doctor_rows
    from levit_edge.doctor import examine

    del options, progress
    return examine(__version__, doctor_rows())


def show(options: DoctorOptions, report: DoctorReport) -> Iterator[RenderableType]:
    """Targets, devices, and below them what to do about those that do not work."""
    from levit_edge.cli.tables import table

    del options
    yield f"levit-edge {report.levit_edge}, Python {report.python}, {report.platform}"
    targets = [row for row in report.rows if row.kind == "target"]
    yield table("targets", ("", "builds", "runs", "packages"), [_cells(row) for row in targets])
    devices = [(row.name, row.executes, row.note) for row in report.rows if row.kind == "device"]
    yield table("devices", ("", "runs", "note"), devices)
    yield from (f"{row.name}: {row.note}" for row in targets if row.note)
    yield from (f"{row.name}: add it with: {row.fix}" for row in report.rows if row.fix)


def _cells(row: DoctorRow) -> tuple[str, ...]:
    from levit_edge.report.figures import ABSENT

    packages = ", ".join(f"{name} {version or 'missing'}" for name, version in row.packages.items())
    return row.name, row.lowers or ABSENT, row.executes, packages


VERB = Verb(
    name="doctor",
    help="Show which targets and devices work here, and what adds the missing ones.",
    examples=("levit-edge doctor --json",),
    options=DoctorOptions,
    run=_run,
    show=show,
)
