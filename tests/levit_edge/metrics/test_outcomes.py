"""Outcomes image by image: they survive packing, and a damaged or impossible record is refused."""

from __future__ import annotations

import base64
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from levit_edge.metrics.outcomes import MAX_IMAGES, Outcomes


def _answers(n: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Right in float, right in the built model, and agreeing, of ``n`` images with three classes."""
    random = np.random.default_rng(n)
    label, floats, built = random.integers(0, 3, (3, n))
    return floats == label, built == label, floats == built


@pytest.mark.parametrize("n", [1, 7, 8, 9, 1000])
def test_outcomes_survive_json(n: int) -> None:
    given = _answers(n)
    found = Outcomes.model_validate_json(Outcomes.of(*given).model_dump_json())
    assert found == Outcomes.of(*given) and found.n == n
    for one, other in zip(found.flags(), given, strict=True):
        assert one.dtype == np.bool_ and np.array_equal(one, other)


def test_the_first_image_is_the_highest_bit() -> None:
    found = Outcomes.of(*(np.array([True, False, False, False, False, False, False, False, True]),) * 3)
    assert zlib.decompress(base64.b64decode(found.right)) == bytes([0b1000_0000, 0b1000_0000])
    assert found.flags().agrees.tolist() == [True, *[False] * 7, True]


def test_fifty_thousand_images_take_little_room() -> None:
    assert len(Outcomes.of(*_answers(50_000)).model_dump_json()) < 4 / 3 * 3 * 50_000 / 8 + 200


def _text(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"right": "%%%"}, "right is not base64 of zlib-compressed bits"),
        ({"right": "é"}, "right is not base64"),
        ({"agrees": base64.b64encode(b"plain").decode()}, "agrees is not base64 of zlib-compressed bits"),
        ({"right_fp32": _text(bytes(1))}, "right_fp32 does not hold the bits of 9 images, which take 2 bytes"),
        ({"right_fp32": _text(bytes(3))}, "right_fp32 does not hold the bits of 9 images"),
        ({"right_fp32": _text(bytes(2))[:-4]}, "right_fp32 does not hold the bits"),
        (
            {"right_fp32": base64.b64encode(zlib.compress(bytes(2)) + b"more").decode()},
            "right_fp32 does not hold the bits",
        ),
        ({"right": _text(bytes([0, 1]))}, "right has bits behind those of its 9 images"),
        ({"n": 17}, "does not hold the bits of 17 images, which take 3 bytes"),
        ({"n": 8}, "does not hold the bits of 8 images"),
        ({"n": 0}, "greater than or equal to 1"),
        ({"n": MAX_IMAGES + 1}, "less than or equal to"),
    ],
)
def test_what_does_not_hold_the_bits_is_refused(change: dict[str, Any], reason: str) -> None:
    good = Outcomes.of(*_answers(9)).model_dump()
    with pytest.raises(ValidationError, match=reason) as failure:
        Outcomes.model_validate(good | change)
    assert failure.value.error_count() == 1


@pytest.mark.parametrize(
    ("right_fp32", "right", "agrees"),
    [(True, True, False), (True, False, True), (False, True, True)],
)
def test_answers_that_exclude_each_other_are_refused(right_fp32: bool, right: bool, agrees: bool) -> None:
    flags = [np.array([True, value]) for value in (right_fp32, right, agrees)]
    with pytest.raises(ValidationError, match="image 1: two equal answers are both right or both wrong"):
        Outcomes.of(*flags)


def test_lengths_must_match() -> None:
    with pytest.raises(ValueError, match=r"shapes \(2,\), \(3,\) and \(3,\)"):
        Outcomes.of(*(np.zeros(n, bool) for n in (2, 3, 3)))


def test_a_zip_bomb_is_not_unpacked() -> None:
    bomb = _text(bytes(50_000_000))
    good = Outcomes.of(*_answers(9)).model_dump()
    tracemalloc.start()
    try:
        with pytest.raises(ValidationError, match="right does not hold the bits of 9 images"):
            Outcomes.model_validate(good | {"right": bomb})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
