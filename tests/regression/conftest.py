"""One build of the whole demo for every target: minutes, so only slow tests ask for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from levit_edge.errors import LevitEdgeError
from levit_edge.pipeline import BuildOptions, build
from levit_edge.report import Report
from targets.devices import LOCAL, open_device

EMULATED = "qemu-arm64"
BASELINES = Path(__file__).parents[1] / "baselines"


def read_baseline(name: str) -> dict[str, Any]:
    """What ``tools/update_baselines.py`` wrote for that target."""
    content: dict[str, Any] = json.loads((BASELINES / f"{name}.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return build(BuildOptions(out=tmp_path_factory.mktemp("demo"), device=_device()))


def _device() -> str:
    """The emulated ARM processor where it has been added; most machines have none."""
    try:
        open_device(EMULATED)
    except LevitEdgeError:
        return LOCAL
    return EMULATED
