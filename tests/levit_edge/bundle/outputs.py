"""An output folder with an earlier build, and what may lie in it after another one."""

from __future__ import annotations

import os
from pathlib import Path

NAMES = ("onnx", "coreml")


def fill(folder: Path, text: str) -> None:
    """A build of two bundles; ``executorch`` is new and has no predecessor."""
    for name in (*NAMES, "executorch") if text == "new" else NAMES:
        (folder / name).mkdir(parents=True)
        (folder / name / "manifest.json").write_text(text)
        (folder / name / f"{text}.bin").write_text(text)
    for name in ("report.json", "report.md"):
        (folder / name).write_text(text)


def tree(folder: Path) -> dict[str, str]:
    """The text of every file below ``folder``, by its path."""
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def earlier_build(out: Path) -> Path:
    """``out`` with a build in it, and a file of the user's."""
    fill(out, "old")
    (out / "notes.txt").write_text("mine")
    return out


def visible(out: Path) -> dict[str, str]:
    """What a person or a program sees that knows nothing of a publication."""
    return {name: text for name, text in tree(out).items() if not name.startswith(".")}


def assert_settled(out: Path, builds: dict[str, dict[str, str]]) -> str:
    """Which of the two builds lies in ``out``, whole, with nothing beside it."""
    (found,) = [name for name, files in builds.items() if files == tree(out)]
    assert not [name for name in os.listdir(out) if name.startswith(".")]
    return found
