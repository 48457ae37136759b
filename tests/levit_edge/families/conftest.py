"""A registry with two families, and a checkpoint of the second one."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import save_file

from levit_edge.families.registry import FAMILIES
from tests.levit_edge.families.tiny_vit import TINY_VIT, random_model


@pytest.fixture
def two_families(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, TINY_VIT.name, TINY_VIT)


@pytest.fixture
def tiny_vit_file(two_families: None, tmp_path: Path) -> Path:
    """``model.safetensors`` in a folder of its own, which may get a config.json too."""
    (tmp_path / "tiny_vit").mkdir()
    save_file(random_model().state_dict(), tmp_path / "tiny_vit" / "model.safetensors")
    return tmp_path / "tiny_vit" / "model.safetensors"
