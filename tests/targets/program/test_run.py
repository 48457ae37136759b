"""A program in torch as a runner."""

from __future__ import annotations

import numpy as np
import pytest

from targets.program.run import ProgramRunner
from targets.registry import TARGETS
from targets.runner import run_batch
from tests.programs import micro, quantized, run


@pytest.mark.parametrize("name", TARGETS)
def test_computing_the_constants_once_changes_no_bit(name: str) -> None:
    program, images = quantized(name), micro().images[:3]
    runner, expected = ProgramRunner(program), run(program, images)
    found = run_batch(runner, images.numpy())
    assert found.dtype == np.float32 and np.array_equal(found, expected)
    assert np.array_equal(runner(images[1:2].numpy()), expected[1:2])
