"""What the documentation says can be followed: links lead somewhere, commands exist, examples parse."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

import levit_edge
from levit_edge.cli.app import app
from tests.places import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^ {4}.*\n)+", re.MULTILINE)
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(?P<title>.+)$", re.MULTILINE)
COMMAND = re.compile(r"levit-edge +(?P<arguments>[a-z-][^`|\n]*)")


@dataclass(frozen=True)
class Page:
    """``prose`` is everything outside code blocks; ``blocks`` are (language, code) of those."""

    path: Path
    prose: str
    blocks: tuple[tuple[str, str], ...]

    @property
    def anchors(self) -> set[str]:
        """What ``#...`` can name, by GitHub's rule: lower case, hyphens for spaces, no other punctuation."""
        titles = [match["title"].strip().lower() for match in HEADING.finditer(self.prose)]
        slugs = [re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles]
        return {
            slug if slugs[:i].count(slug) == 0 else f"{slug}-{slugs[:i].count(slug)}" for i, slug in enumerate(slugs)
        }


@cache
def read(path: Path) -> Page:
    text = path.read_text(encoding="utf-8")
    fenced = [(match["language"], match["code"]) for match in FENCE.finditer(text)]
    rest = FENCE.sub("", text)
    indented = [("", match[0]) for match in INDENTED.finditer(rest)]
    return Page(path, INDENTED.sub("", rest), (*fenced, *indented))


def code(language: str) -> list[Any]:
    return [
        pytest.param(text, id=f"{path.name}-{index}")
        for path in PAGES
        for index, (kind, text) in enumerate(read(path).blocks)
        if kind == language
    ]


def commands(page: Page) -> Iterator[list[str]]:
    """The arguments of every ``levit-edge VERB ...`` in code, between backticks or in a block, without comments."""
    spans = [span for span in re.findall(r"`([^`\n]+)`", page.prose) if span.startswith("levit-edge ")]
    for text in (*spans, *(block for _, block in page.blocks)):
        for match in COMMAND.finditer(text):
            yield shlex.split(match["arguments"].replace("'", ""), comments=True)


def check_command(arguments: list[str]) -> None:
    """Fails unless the first words name a command and every ``--option`` is one of its own or a global one."""
    command: Any = typer.main.get_command(app)
    options, words = set(_options(command)), list(arguments)
    while hasattr(command, "commands"):
        while words and words[0].startswith("-"):
            assert words.pop(0).partition("=")[0] in options, arguments
        if not words:
            return
        assert words[0] in command.commands, f"no verb {words[0]!r}: {arguments}"
        command = command.commands[words.pop(0)]
        options |= set(_options(command))
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0].rstrip("],") in options, f"{word} is no option: {arguments}"


def _options(command: Any) -> Iterator[str]:
    yield "--help"
    for parameter in command.params:
        yield from parameter.opts


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(path: Path) -> None:
    for match in LINK.finditer(read(path).prose):
        target, _, anchor = match["target"].partition("#")
        if "://" in target:
            continue
        aim = (path.parent / target).resolve() if target else path
        assert aim.exists(), f"{match['target']} is not there"
        assert aim.is_relative_to(ROOT), f"{match['target']} is outside the project"
        if anchor:
            assert anchor in read(aim).anchors, f"{target} has no heading #{anchor}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_and_options_exist(path: Path) -> None:
    for arguments in commands(read(path)):
        check_command(arguments)


def test_the_readme_shows_every_verb_with_options_that_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("\n## The verbs\n\n")[2].partition("\n\n")[0]
    rows = [re.findall(r"`([^`]+)`", row.split(" | ")[0]) for row in table.splitlines()]
    shown = [shlex.split(span.replace("[", "").replace("]", "")) for row in rows for span in row]
    for arguments in shown:
        check_command(arguments)
    group: Any = typer.main.get_command(app)
    assert {arguments[0] for arguments in shown} == set(group.commands)


def test_every_page_of_the_reference_is_linked_from_the_readme() -> None:
    linked = {match["target"].partition("#")[0] for match in LINK.finditer(read(ROOT / "README.md").prose)}
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} <= linked


def test_the_glossary_explains_each_term_once_in_alphabetical_order() -> None:
    text = read(ROOT / "docs" / "glossary.md").prose
    terms = [match["title"] for match in HEADING.finditer(text)][1:]
    assert terms == sorted(set(terms), key=str.casefold)
    explained = re.split(r"^### .+$", text, flags=re.MULTILINE)[1:]
    assert all(part.strip() for part in explained)


@pytest.mark.parametrize("text", code("python"))
def test_python_examples_name_what_exists(text: str) -> None:
    """Every import succeeds, and everything that is taken from ``levit_edge`` is there."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            module = importlib.import_module(node.module)
            assert not [alias.name for alias in node.names if not hasattr(module, alias.name)]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "levit_edge":
            assert hasattr(levit_edge, node.attr), node.attr


def test_the_python_page_has_every_verb_and_every_option() -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    for name in levit_edge._OPTIONS:
        assert name in page
        fields = [field.name for field in dataclasses.fields(getattr(levit_edge, name))]
        assert not [field for field in fields if f"`{field}`" not in page], name


@pytest.mark.parametrize("text", code("toml"))
def test_toml_examples_parse(text: str) -> None:
    assert tomllib.loads(text)


@pytest.mark.parametrize(
    "arguments", [["bild"], ["build", "--modell", "x"], ["device", "remve", "qemu-arm64"], ["--debugg", "build"]]
)
def test_a_command_that_does_not_exist_is_found(arguments: list[str]) -> None:
    with pytest.raises(AssertionError):
        check_command(arguments)
