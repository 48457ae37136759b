"""``levit-edge build``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from levit_edge.cli.verb import DONE, GATE_FAILED, Verb
from levit_edge.pipeline.options import BuildOptions
from levit_edge.progress import Progress

if TYPE_CHECKING:  # the help does not wait for what only an answer needs
    from rich.console import RenderableType

    from levit_edge.report.schema import Report


WORTH_A_LINE = ("failed", "undecided")


def _run(options: BuildOptions, progress: Progress) -> Report:
    from levit_edge.pipeline.build import build

    return build(options, progress)


def show(options: BuildOptions, report: Report) -> Iterator[RenderableType]:
    """The summary, the gates that did not pass, and where the files are."""
    from levit_edge.cli.tables import table
    from levit_edge.report.figures import gate_line
    from levit_edge.report.kept_float import STEP_COLUMNS, step_rows, step_title
    from levit_edge.report.terminal import summary_table

    yield summary_table(report)
    for name, target in report.targets.items():
        if (found := target.mixed_precision) is not None:
            yield table(f"{name}: {step_title(found)}", STEP_COLUMNS, step_rows(found))
    yield from (f"warning: {warning}" for warning in report.warnings)
    for name, target in report.targets.items():
        yield from (f"warning: {name}: {warning}" for warning in target.warnings)
        yield from (
            f"{gate.outcome}: {name}: {gate_line(gate)}" for gate in target.gates if gate.outcome in WORTH_A_LINE
        )
    for target in report.targets.values():
        yield f"{options.out / target.bundle / target.model_file}"
    yield f"{options.out / 'report.md'}"


VERB = Verb(
    name="build",
    help="Quantize an image classifier, lower it for each target, and verify what was written.",
    examples=("levit-edge build --model ./my-levit --calibration ./photos --target onnx",),
    options=BuildOptions,
    run=_run,
    show=show,
    exit_code=lambda report: DONE if report.passed else GATE_FAILED,
)
