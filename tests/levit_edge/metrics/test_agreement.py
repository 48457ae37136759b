"""Every participant against every other, by hand."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from levit_edge.errors import LevitEdgeError
from levit_edge.metrics.agreement import Agreement, AgreementMeter, Participant

RANDOM = np.random.default_rng(0)


def _decibels(reference: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return 10 * math.log10((reference**2).sum() / ((reference - other) ** 2).sum())


def _participant(name: str, program: str | None = None) -> Participant:
    return Participant(name=name, target="onnx", runtime=f"{name} 1.0", executed=True, program=program)


def _table(*everybody: tuple[Participant, NDArray[np.float64]], batch: int = 100) -> Agreement:
    meter = AgreementMeter([participant for participant, _ in everybody])
    for start in range(0, len(everybody[0][1]), batch):
        meter.update([logits[start : start + batch] for _, logits in everybody])
    return meter.result("pets")


def test_a_row_is_the_reference_of_its_columns() -> None:
    answers = [scale * RANDOM.normal(size=(50, 7)) for scale in (1, 2, 3)]
    table = _table(*((_participant(str(number)), logits) for number, logits in enumerate(answers)))
    for row, reference in enumerate(answers):
        for column, other in enumerate(answers):
            same = 100 * (reference.argmax(axis=1) == other.argmax(axis=1)).mean()
            assert table.agreement_pct[row][column] == pytest.approx(same)
            if row == column:
                assert table.sqnr_db[row][column] is None
            else:
                assert table.sqnr_db[row][column] == pytest.approx(_decibels(reference, other))
    assert (table.n, table.images) == (50, "pets") and table.sqnr_db[0][1] != table.sqnr_db[1][0]


def test_the_margin_is_that_of_the_first() -> None:
    decided, tied = np.array([[0.0, 0.0, 3.0]]), np.array([[1.0, 1.0, 0.0]])
    one, other = _participant("a"), _participant("b")
    assert _table((one, decided), (other, tied)).float_margin == pytest.approx(3 / math.sqrt(2))
    assert _table((one, tied), (other, decided)).float_margin == 0


def test_files_are_looked_up_against_their_own_program() -> None:
    one, other = np.eye(4), np.eye(4)[::-1]
    people = [
        (_participant("p"), one),
        (_participant("q"), other),
        (_participant("file of q", "q"), one),
        (_participant("file of p", "p"), one),
    ]
    found = {participant.name: figures for participant, *figures in _table(*people).against_program()}
    assert found == {"file of q": [0, pytest.approx(_decibels(other, one))], "file of p": [100, None]}


@pytest.mark.parametrize("batch", [1, 7, 49])
def test_batches_do_not_matter(batch: int) -> None:
    floats = RANDOM.normal(size=(50, 7))
    people = [
        (_participant(name), floats + scale * RANDOM.normal(size=(50, 7)))
        for name, scale in zip("abc", (0, 0.4, 2), strict=True)
    ]
    whole, pieces = _table(*people), _table(*people, batch=batch)
    assert (pieces.n, pieces.agreement_pct) == (whole.n, whole.agreement_pct) and 0 < whole.agreement_pct[0][2] < 100
    assert pieces.float_margin == pytest.approx(whole.float_margin)
    for row, expected in zip(pieces.sqnr_db, whole.sqnr_db, strict=True):
        assert row == pytest.approx(expected, abs=1e-9)


def test_memory_does_not_grow_with_the_images() -> None:
    logits = [RANDOM.normal(size=(64, 1000)).astype(np.float32) for _ in range(4)]
    meter = AgreementMeter([_participant(name) for name in "abcd"])
    meter.update(logits)
    tracemalloc.start()
    try:
        for _ in range(20):
            meter.update(logits)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert meter.result("pets").n == 21 * 64
    assert kept < logits[0].nbytes  # 20 batches of four would be 80 times that


def test_no_image_no_table() -> None:
    with pytest.raises(ValueError, match="no image"):
        AgreementMeter([_participant("a")]).result("pets")


@pytest.mark.parametrize("logits", [[np.eye(2)], [np.eye(2), np.eye(3)], [np.eye(2)] * 3])
def test_everybody_answers_the_same_images(logits: list[NDArray[np.float64]]) -> None:
    with pytest.raises(ValueError, match=r"zip|shapes"):
        AgreementMeter([_participant("a"), _participant("b")]).update(logits)


def test_answers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(LevitEdgeError, match="onnx program gave NaN or infinite logits"):
        _table((_participant("a"), np.eye(2)), (_participant("onnx program"), np.full((2, 2), np.nan)))


def test_a_table_that_is_not_square_is_refused() -> None:
    table = _table((_participant("a"), np.eye(2)), (_participant("b"), np.eye(2)))
    for field in ("agreement_pct", "sqnr_db"):
        with pytest.raises(ValueError, match=f"{field} needs 2 rows of 2 figures"):
            Agreement.model_validate(table.model_dump() | {field: ((1.0, 2.0),)})
