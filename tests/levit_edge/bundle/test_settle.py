"""A publication that a killed build left unfinished: readers complete it before they look."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from levit_edge.bundle import journal
from levit_edge.bundle.journal import JOURNAL_NAME
from levit_edge.bundle.manifest import open_bundle
from levit_edge.bundle.publish import lock_directory, settle, staged_outputs
from levit_edge.errors import InputError
from levit_edge.report.schema import load_report
from tests.levit_edge.bundle.outputs import assert_settled, earlier_build, fill, tree


def _unfinished(out: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A publication of which one bundle is new and one is old, as a kill leaves it."""
    earlier_build(out)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="killed"), staged_outputs(out) as folder:
        fill(folder, "new")

        move = journal._move

        def some(entry: Any, source: Path, target: Path) -> None:
            if entry.name == "onnx":
                raise OSError("killed")
            move(entry, source, target)

        patch.setattr(journal, "exchange", lambda first, second: False)
        patch.setattr(journal, "_move", some)
        patch.setattr(journal, "_undo", lambda out, publication: None)
    assert (out / "coreml" / "new.bin").exists() and (out / "onnx" / "old.bin").exists()
    assert not (out / "report.json").exists()
    return out


def test_a_reader_completes_the_publication_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builds: Any) -> None:
    out = _unfinished(tmp_path / "bundle", monkeypatch)
    with pytest.raises(InputError, match="is not JSON"):  # the bundles of these tests have no real manifest
        open_bundle(out / "onnx")
    assert assert_settled(out, builds) == "new"
    out = _unfinished(tmp_path / "report", monkeypatch)
    with pytest.raises(InputError, match="is not JSON"):
        load_report(out / "report.json")
    assert assert_settled(out, builds) == "new"


def test_a_relative_path_is_settled_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builds: Any) -> None:
    out = _unfinished(tmp_path / "dist", monkeypatch)
    monkeypatch.chdir(out)
    with pytest.raises(InputError, match="is not JSON"):
        open_bundle(Path("onnx"))
    assert assert_settled(out, builds) == "new"


def test_a_reader_does_not_disturb_a_build_that_publishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = _unfinished(tmp_path / "dist", monkeypatch)
    monkeypatch.setattr("levit_edge.bundle.publish._PUBLISHING_S", 0)
    before = tree(out)
    with lock_directory(out), pytest.raises(InputError, match=rf"another build \(process {os.getpid()}\)"):
        load_report(out / "report.json")
    assert tree(out) == before


def test_without_the_staged_files_the_old_build_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builds: Any
) -> None:
    out = _unfinished(tmp_path / "dist", monkeypatch)
    (staging,) = out.glob(".build.levit-tmp-*")
    shutil.rmtree(staging)
    settle(out)
    assert assert_settled(out, builds) == "old"


@pytest.mark.parametrize("text", ["{", "[]", '{"staging": "a/b", "aside": "..", "entries": []}'])
def test_a_journal_that_cannot_be_read_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / JOURNAL_NAME).write_text(text)
    with pytest.raises(InputError, match=r"levit-edge\.journal .*; delete it and build again") as failure:
        settle(tmp_path)
    assert "\n" not in str(failure.value) and (tmp_path / JOURNAL_NAME).exists()


def test_a_folder_without_a_journal_is_not_touched(tmp_path: Path) -> None:
    settle(tmp_path / "absent")
    assert os.listdir(tmp_path) == []
