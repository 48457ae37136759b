"""Shared results are made once, whoever asks, and never half."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.shared_results import shared_folder


def test_a_result_is_made_once_for_all_that_ask(tmp_path_factory: pytest.TempPathFactory) -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "result").write_text("whole", encoding="utf-8")

    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: shared_folder(tmp_path_factory, "once", make), range(8)))
    assert made == [folders[0]] and set(folders) == {folders[0]}
    assert (folders[0] / "result").read_text(encoding="utf-8") == "whole"


def test_what_failed_is_made_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        shared_folder(tmp_path_factory, "again", fail)
    folder = shared_folder(tmp_path_factory, "again", lambda folder: (folder / "whole").touch())
    assert [path.name for path in folder.iterdir()] == ["whole"]


def test_the_processes_of_one_run_share_one_folder(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path_factory.getbasetemp()
    for name in ("gw0", "gw1"):
        worker = base / f"popen-{name}"
        worker.mkdir()
        monkeypatch.setenv("PYTEST_XDIST_WORKER", name)
        monkeypatch.setattr(tmp_path_factory, "_basetemp", worker)
        assert shared_folder(tmp_path_factory, "shared", lambda folder: None) == base / "shared"
