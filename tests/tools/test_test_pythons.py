"""The script that tries every supported Python: what it finds, what it runs, and what it says of failures."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.places import ROOT

SCRIPT = ROOT / "tools" / "test_pythons"
VERSION = f"3.{sys.version_info.minor}"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

# A checkout whose Makefile makes an environment of two shell scripts: enough for every stage to run for real.
PROJECT = '[project]\nrequires-python = ">=3.11,<3.14"\n'
MAKEFILE = """
$(VENV)/.installed-dev: pyproject.toml
	mkdir -p $(VENV)/bin
	printf '#!/bin/sh\\necho 2.13.0+cpu\\n' > $(VENV)/bin/python
	printf '#!/bin/sh\\ntest -f "$$9" || {build}\\n' > $(VENV)/bin/levit-edge
	chmod +x $(VENV)/bin/python $(VENV)/bin/levit-edge
	touch $@
test: $(VENV)/.installed-dev
	@{test}
"""
PASSING = "echo '=== 7 passed, 2 skipped, 54 deselected in 1.00s ==='"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("script_under_test", str(SCRIPT))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, loader.name, module)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the small project, in place of this one."""
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    (root / "Makefile").write_text(MAKEFILE.format(test=PASSING, build="true"), encoding="utf-8")
    monkeypatch.setattr(script, "ROOT", root)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield root
    for number, handler in before.items():
        signal.signal(number, handler)


def _shim(folder: Path, text: str) -> None:
    folder.mkdir(parents=True)
    (folder / f"python{VERSION}").write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    (folder / f"python{VERSION}").chmod(0o755)


def test_the_versions_are_those_of_the_project(script: ModuleType) -> None:
    assert script.supported_versions(">=3.11,<3.14") == ("3.11", "3.12", "3.13")
    with pytest.raises(ValueError, match="this script reads ranges like"):
        script.supported_versions("~=3.11")


def test_an_interpreter_is_asked_for_its_version(script: ModuleType, tmp_path: Path) -> None:
    _shim(tmp_path / "inactive", "echo not active >&2; exit 127")
    _shim(tmp_path / "other", "echo 3.2 /usr/bin/python3")
    _shim(tmp_path / "good", f'exec "{sys.executable}" "$@"')
    path = os.pathsep.join(str(tmp_path / name) for name in ("absent", "inactive", "other", "good"))
    found = script.find_interpreter(VERSION, {"PATH": path, "PYENV_ROOT": str(tmp_path)})
    assert found is not None and found.samefile(sys.executable)
    path = path.removesuffix("good")
    assert script.find_interpreter(VERSION, {"PATH": path, "PYENV_ROOT": str(tmp_path)}) is None


def test_pyenv_offers_its_newest_patch_first(script: ModuleType, tmp_path: Path) -> None:
    for name in ("3.12.9", "3.12.10", "3.12-dev", "3.1.12", "3.13.0"):
        (tmp_path / "versions" / name).mkdir(parents=True)
    found = list(script.candidates("3.12", {"PYENV_ROOT": str(tmp_path)}))
    assert [path.parts[-3] for path in found[1:]] == ["3.12.10", "3.12.9"]


def test_the_table_says_what_passed_and_what_is_not_there(
    script: ModuleType,
    checkout: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(script, "find_interpreter", lambda version, _: Path("/py") if version == "3.12" else None)
    assert script.main(["--keep", str(tmp_path / "kept")]) == 0
    out, error = capfd.readouterr()
    rows = [line.split("  ") for line in out.splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells[1] == ["3.11", "not found"] and cells[3] == ["3.13", "not found"]
    assert cells[2][:5] == ["3.12", "/py", "2.13.0+cpu", "7 passed, 2 skipped", "passed"]
    assert "3.12: tests: done after" in error
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["3.12", "3.12.log"]


@pytest.mark.parametrize(
    ("change", "cells"),
    [
        ({"test": "echo '1 failed, 6 passed'; exit 1", "build": "true"}, ["2.13.0+cpu", "failed"]),
        ({"test": PASSING, "build": "exit 1"}, ["2.13.0+cpu", "7 passed, 2 skipped", "failed"]),
        ({"test": "syntax\nerror", "build": "true"}, ["failed"]),
    ],
)
def test_a_failure_is_told_and_ends_with_code_1(
    script: ModuleType, checkout: Path, change: dict[str, str], cells: list[str],
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (checkout / "Makefile").write_text(MAKEFILE.format(**change), encoding="utf-8")
    monkeypatch.setattr(script, "find_interpreter", lambda *_: Path("/py"))
    assert script.main(["3.12"]) == 1
    out, error = capfd.readouterr()
    row = [cell.strip() for cell in out.splitlines()[1].split("  ") if cell.strip()]
    assert row[2 : 2 + len(cells)] == cells
    assert "exit code" in error and "the whole log is" in error


def test_no_interpreter_at_all_is_no_success(
    script: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "find_interpreter", lambda *_: None)
    assert script.main([]) == 1
    assert capfd.readouterr().out.count("not found") == 3


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["3.10"], "not supported: 3.10; valid: 3.11, 3.12, 3.13"),
        (["--keep", str(SCRIPT)], "is not a folder"),
        (["--keep", "/tmp/a b"], "white space"),
    ],
)
def test_bad_arguments_end_with_code_2(
    script: ModuleType, arguments: list[str], reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        script.main(arguments)
    assert ended.value.code == 2 and reason in capfd.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_what_was_started(checkout: Path, tmp_path: Path, number: int, code: int) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    recipe = f"exec 3> {pipe}; echo started >&3; exec sleep 600"
    (checkout / "Makefile").write_text(f"$(VENV)/.installed-dev:\n\t{recipe}\n", encoding="utf-8")
    (checkout / "tools").mkdir()
    copy = shutil.copy2(SCRIPT, checkout / "tools")
    _shim(tmp_path / "bin", f'exec "{sys.executable}" "$@"')
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    command = [str(copy), VERSION]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        assert _next(reader) == b"started\n"
        process.send_signal(number)
        assert process.wait(timeout=60) == code
        assert _next(reader) == b""  # the last process that could write has ended
        os.close(reader)
    assert not list(tmp_path.glob("pythons-*"))


def _next(reader: int) -> bytes:
    """What a pipe gives next, b"" once nobody can write to it any more."""
    assert select.select([reader], [], [], 60)[0]
    return os.read(reader, 100)
