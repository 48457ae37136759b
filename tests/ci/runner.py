"""A runner for the steps of ``action.yml``: in order, in bash, with the environment that GitHub would give them.

The only stand-ins are the interpreter that makes the virtual environment, because the real one would download for
minutes, and ``levit-edge build`` where a test says so. Everything else runs as it is written.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.places import ROOT

ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
SUMMARY_LIMIT = 1024 * 1024
EXPRESSION = re.compile(r"\$\{\{ *(?P<reference>[\w.-]+) *\}\}")
TERM = re.compile(r"(?P<reference>[\w.-]+) (?P<sign>==|!=) ''")

# "-m venv DIR" makes an environment whose pip notes its arguments; everything else runs in the real interpreter.
INTERPRETER = """#!/bin/sh
if [ "$1 $2" != "-m venv" ]; then exec "{python}" "$@"; fi
mkdir -p "$3/bin"
cp "{home}/pip" "$3/bin/python"
cp "{home}/levit-edge" "$3/bin/levit-edge"
"""
PIP = """#!/bin/sh
printf '%s\\n' "$@" >"{home}/pip.log"
exit {code}
"""
LEVIT_EDGE = """#!{python}
import json, os, sys
from pathlib import Path
arguments = sys.argv[1:]
with open({calls!r}, "a", encoding="utf-8") as calls:
    calls.write(json.dumps(arguments) + "\\n")
if arguments[0] == "build" and {build}:
    words = [word for argument in arguments for word in argument.split("=", 1)]
    out = Path(words[words.index("--out") + 1])
    out.mkdir()
    out.joinpath("report.json").write_bytes(Path({report!r}).read_bytes())
    sys.exit({code})
os.environ["PYTHONPATH"] = {root!r}
os.execv(sys.executable, [sys.executable, "-m", "levit_edge", *arguments])
"""


@dataclass(frozen=True)
class Build:
    """A stand-in for ``levit-edge build``: it writes ``report`` into the output folder and ends with ``code``."""

    report: Path
    code: int = 0


@dataclass
class Result:
    """What a run of the action left behind. ``upload`` are the inputs of the upload, None where it did not run."""

    code: int = 0
    log: str = ""
    summary: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    upload: dict[str, str] | None = None
    ran: list[str] = field(default_factory=list)
    calls: list[list[str]] = field(default_factory=list)
    pip: list[str] = field(default_factory=list)

    @property
    def uploaded(self) -> list[str]:
        """Names of the files that the upload takes."""
        return sorted(path.name for path in Path((self.upload or {})["path"]).iterdir())


class Runner:
    """One job on one machine; its workspace, which the steps run in, is a folder with blanks in its name."""

    def __init__(self, folder: Path, build: Build | None = None, pip_code: int = 0) -> None:
        self.home, self.workspace, self.temp = folder / "home", folder / "my work", folder / "temp dir"
        for made in (self.home, self.workspace, self.temp):
            made.mkdir()
        self.python = self.home / "python"
        words = {"home": self.home, "python": sys.executable}
        self._script(self.python, INTERPRETER.format(**words))
        self._script(self.home / "pip", PIP.format(**words, code=pip_code))
        levit_edge = LEVIT_EDGE.format(
            python=sys.executable, calls=str(self.home / "calls"), root=str(ROOT), build=build is not None,
            report="" if build is None else str(build.report), code=0 if build is None else build.code,
        )  # fmt: skip
        self._script(self.home / "levit-edge", levit_edge)

    def run(self, **inputs: str) -> Result:
        """Run the whole action; ``_`` in a name stands for ``-``. A name that is no input is an error."""
        given = {name.replace("_", "-"): value for name, value in ({"python": str(self.python)} | inputs).items()}
        assert given.keys() <= ACTION["inputs"].keys()
        values = {name: given.get(name, spec["default"]) for name, spec in ACTION["inputs"].items()}
        context: dict[str, Any] = {"inputs": values, "steps": {}}
        result, path = Result(), os.environ["PATH"]
        for step in ACTION["runs"]["steps"]:
            if not holds(step.get("if", "success()"), context, failed=result.code != 0):
                continue
            result.ran.append(step["name"])
            if "uses" in step:
                result.upload = {name: substitute(text, context) for name, text in step["with"].items()}
                continue
            files, code = self._step(step, context, path, result)
            result.code = result.code or code
            path = os.pathsep.join([*files["PATH"].splitlines(), path])
            result.summary += files["STEP_SUMMARY"]
            context["steps"][step.get("id", step["name"])] = {"outputs": _outputs(files["OUTPUT"])}
        result.outputs = {name: substitute(spec["value"], context) for name, spec in ACTION["outputs"].items()}
        result.calls = self.calls()
        result.pip = _lines(self.home / "pip.log")
        return result

    def calls(self) -> list[list[str]]:
        """The arguments of every ``levit-edge`` so far."""
        return [json.loads(line) for line in _lines(self.home / "calls")]

    def _step(
        self, step: Mapping[str, Any], context: Mapping[str, Any], path: str, result: Result
    ) -> tuple[dict[str, str], int]:
        """Run one step as ``shell: bash`` does; gives back the files that it wrote for GitHub, and its exit code."""
        assert step["shell"] == "bash"
        script = self.home / "step.sh"
        script.write_text(step["run"], encoding="utf-8")
        files = {name: self.home / name for name in ("OUTPUT", "STEP_SUMMARY", "PATH", "ENV")}
        for file in files.values():
            file.write_bytes(b"")
        environment = {name: substitute(text, context) for name, text in step["env"].items()}
        environment |= {f"GITHUB_{name}": str(file) for name, file in files.items()}
        environment |= {"GITHUB_ACTION_PATH": str(ROOT), "RUNNER_TEMP": str(self.temp), "HOME": str(self.home)}
        environment |= {"PATH": path, "GITHUB_ACTIONS": "true", "CI": "true"}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)], cwd=self.workspace, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", check=False, timeout=900,
        )  # fmt: skip
        result.log += done.stdout
        assert files["STEP_SUMMARY"].stat().st_size <= SUMMARY_LIMIT
        return {name: file.read_text(encoding="utf-8") for name, file in files.items()}, done.returncode

    @staticmethod
    def _script(path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)


def holds(condition: str, context: Mapping[str, Any], *, failed: bool) -> bool:
    """An ``if:`` of the few forms that the action uses; as on GitHub, one without a status function needs success."""
    terms = condition.split(" && ")
    status = {"always()": True, "success()": not failed}
    values = [status[term] if term in status else _compare(term, context) for term in terms]
    return all(values) and (not failed or "always()" in terms)


def _compare(term: str, context: Mapping[str, Any]) -> bool:
    match = TERM.fullmatch(term)
    assert match is not None, f"the runner of the tests does not know {term!r}"
    return (look_up(match["reference"], context) == "") is (match["sign"] == "==")


def substitute(text: str, context: Mapping[str, Any]) -> str:
    """``text`` with the values of its expressions, which are references and nothing else."""
    found = EXPRESSION.sub(lambda match: look_up(match["reference"], context), text)
    assert text.count("${{") == len(EXPRESSION.findall(text)), f"the runner of the tests does not know {text!r}"
    return found


def look_up(reference: str, context: Mapping[str, Any]) -> str:
    """``inputs.NAME``, which must exist, or ``steps.ID.outputs.NAME``, which is empty where the step set none."""
    kind, name, *rest = reference.split(".")
    if kind == "inputs":
        return str(context["inputs"][name])
    assert kind == "steps" and rest[0] == "outputs" and len(rest) == 2, reference
    assert any(step.get("id") == name for step in ACTION["runs"]["steps"]), reference
    return str(context["steps"].get(name, {"outputs": {}})["outputs"].get(rest[1], ""))


def _outputs(text: str) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in text.splitlines())}


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
