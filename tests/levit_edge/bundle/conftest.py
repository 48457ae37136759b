"""What may lie in an output folder after a publication."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.levit_edge.bundle.outputs import earlier_build, fill, tree


@pytest.fixture
def builds(tmp_path: Path) -> dict[str, dict[str, str]]:
    """What lies in the folder with the old build, and with the new one in its place."""
    fill(tmp_path / "fresh", "new")
    old = tree(earlier_build(tmp_path / "before"))
    return {"old": old, "new": {**tree(tmp_path / "fresh"), "notes.txt": "mine"}}
