"""Model files of the smallest LeViT, written once for all tests of a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from targets.registry import TARGETS
from tests.programs import PLANS, quantized
from tests.shared_results import shared_folder

Written = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """``written(target, recipe)``: the path of that model file."""

    @cache
    def write(name: str, recipe: str) -> Path:
        target = TARGETS[name]

        def lower(folder: Path) -> None:
            target.backend.lower(quantized(name, recipe), folder / target.model_file, PLANS[recipe].half)

        return shared_folder(tmp_path_factory, f"{name}-{recipe}", lower) / target.model_file

    return write
