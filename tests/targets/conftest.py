"""Model files of the smallest LeViT, written once for every test of the targets."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from quantize.recipes import RECIPES
from targets.registry import TARGETS
from tests.programs import quantized

Written = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """``written(target, recipe)``: the path of that model file."""

    @cache
    def write(name: str, recipe: str) -> Path:
        target = TARGETS[name]
        path = tmp_path_factory.mktemp(f"{name}-{recipe}") / target.model_file
        target.backend.lower(quantized(name, recipe), path, RECIPES[recipe].half)
        return path

    return write
