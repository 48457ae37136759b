"""What a verb is to the command line: its options record, the function that answers, and how the answer is shown."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, get_type_hints

import typer

from levit_edge.cli.console import emit, emit_json
from levit_edge.cli.quiet_stdout import working
from levit_edge.errors import InputError
from levit_edge.pipeline.options import Option, options_of
from levit_edge.progress import Progress

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import RenderableType

DONE, GATE_FAILED = 0, 1
JSON = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]

O = TypeVar("O")  # noqa: E741  # the options record
A = TypeVar("A", bound="BaseModel")  # the answer


@dataclass(frozen=True)
class Verb(Generic[O, A]):
    """One verb. ``run`` imports what it needs when it is called, so that ``--help`` answers at once.

    ``exit_code`` is that of an answer; ``examples`` are whole command lines.
    """

    name: str
    help: str
    examples: tuple[str, ...]
    options: type[O]
    run: Callable[[O, Progress], A]
    show: Callable[[O, A], Iterator[RenderableType]]
    exit_code: Callable[[A], int] = lambda _: DONE


def add_verb(app: typer.Typer, verb: Verb[Any, Any]) -> None:
    """Make ``verb`` a command of ``app``, with the flags and the help that its options record states."""

    def command(*, as_json: bool, **values: Any) -> int:
        try:
            # A repeatable option comes as a list; the records keep tuples.
            plain = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
            options = verb.options(**plain)
        except InputError as error:
            raise InputError(f"{error} (see levit-edge {verb.name} --help)") from None
        with working() as progress:
            answer = verb.run(options, progress)
        emit_json(answer) if as_json else emit(*verb.show(options, answer))
        return verb.exit_code(answer)

    parameter, keyword = inspect.Parameter, inspect.Parameter.KEYWORD_ONLY
    shown = [*_parameters(verb.options), parameter("as_json", keyword, default=False, annotation=JSON)]
    command.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # what typer reads
    command.__annotations__ = {}
    app.command(verb.name, help=verb.help, epilog=epilog(verb.examples))(command)


def epilog(examples: tuple[str, ...]) -> str:
    """The last paragraph of a help page: command lines, each on a line of its own."""
    return "\b\nExample:\n" + "\n".join(f"  {example}" for example in examples)


def _parameters(record: type) -> Iterator[inspect.Parameter]:
    """A keyword parameter for each field that the command line shows."""
    hints, shown = get_type_hints(record), options_of(record)
    for field in fields(record):
        if (option := shown.get(field.name)) is not None:
            kind = option.type or hints[field.name]
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            yield inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=list(default) if isinstance(default, tuple) else default,
                annotation=Annotated[kind, _typer(field.name, option, kind)],
            )


def _typer(name: str, option: Option, kind: Any) -> Any:
    if option.argument:
        return typer.Argument(metavar=option.metavar, help=option.help)
    flag = option.flag or f"--{name.replace('_', '-')}"
    return typer.Option(
        flag,
        metavar=None if kind is bool else option.metavar,
        help=option.help,
        show_default=option.default_text or True,
        min=option.minimum,
        max=option.maximum,
    )
