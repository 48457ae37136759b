"""When a model file counts as computing what its program computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from levit_edge.errors import VerificationFailed
from levit_edge.metrics.sqnr import sqnr_db
from levit_edge.pipeline.verify import check_integer_match, check_match, far_images, one_torch_thread

FLOATS = np.random.default_rng(0).normal(size=(16, 10)).astype(np.float32)


def noisy(base: NDArray[np.float32], db: float, seed: int) -> NDArray[np.float32]:
    """``base`` plus noise that lies ``db`` below it."""
    noise = np.random.default_rng(seed).normal(size=base.shape)
    noise *= np.sqrt(np.square(base).sum() / np.square(noise).sum()) * 10 ** (-db / 20)
    return (base + noise).astype(np.float32)


def test_a_float_file_must_match_its_program() -> None:
    check_match("onnx", noisy(FLOATS, 41, seed=1), FLOATS, 40)
    with pytest.raises(VerificationFailed, match=r"^onnx: the model file differs .*SQNR 39\.0 dB, at least 40\.0 dB"):
        check_match("onnx", noisy(FLOATS, 39, seed=1), FLOATS, 40)


def test_an_integer_file_may_round_otherwise_when_it_is_as_good() -> None:
    program, lowered = noisy(FLOATS, 20, seed=1), noisy(FLOATS, 20, seed=2)
    assert sqnr_db(program, lowered) < 25
    check_integer_match("onnx", lowered, program, FLOATS, 25)


def test_an_integer_file_that_is_worse_must_match_its_program() -> None:
    program = noisy(FLOATS, 40, seed=1)
    check_integer_match("onnx", noisy(program, 30, seed=2), program, FLOATS, 25)
    with pytest.raises(VerificationFailed, match="differs from the program"):
        check_integer_match("onnx", noisy(program, 20, seed=2), program, FLOATS, 25)


def test_images_are_far_only_where_all_together_are() -> None:
    program = FLOATS.copy()
    assert far_images(noisy(program, 30, seed=1), program, 25) == []
    lowered = noisy(program, 60, seed=1)
    lowered[3] = lowered[5] = 0
    assert far_images(lowered, program, 25) == [3, 5]
    lowered[7] = np.nan
    assert far_images(lowered, program, 25) == [3, 5, 7]


def test_the_number_of_threads_is_given_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ZeroDivisionError), one_torch_thread():
            assert torch.get_num_threads() == 1
            raise ZeroDivisionError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
