"""A cache folder of its own for every test that makes an emulated machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from levit_edge.devices.qemu.folder import CACHE_VARIABLE


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the (absent) machine."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "qemu-arm64"
