"""The application: global options, and the verbs in the order of a project's life."""

from __future__ import annotations

from typing import Annotated

import typer

from levit_edge import __version__
from levit_edge.cli import bench, build, device, diff, doctor, evaluate, gate, inspect, predict, sensitivity
from levit_edge.cli.console import logging_to_stderr
from levit_edge.cli.verb import add_verb, epilog

VERBS = (
    build.VERB,
    evaluate.VERB,
    bench.VERB,
    gate.VERB,
    diff.VERB,
    inspect.VERB,
    sensitivity.VERB,
    predict.VERB,
    doctor.VERB,
)

app = typer.Typer(
    name="levit-edge",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"levit-edge {__version__}")
        raise typer.Exit


@app.callback(epilog=epilog(build.VERB.examples))
def levit_edge(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show where a failure happened, and every log line.")] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Show more log lines, also those of other packages.")
    ] = False,
    version: Annotated[  # noqa: ARG001  # its callback does the work
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """From a LeViT checkpoint to verified int8 bundles for Android, iOS and ARM Linux.

    Exit codes: 0 done, 1 a gate failed or inspect --diverge found a layer that departs, 2 bad input or usage,
    3 a needed component is missing, 4 internal error.
    """
    context.with_resource(logging_to_stderr(verbose=verbose, debug=debug))


for _verb in VERBS:
    add_verb(app, _verb)
app.add_typer(device.app)
