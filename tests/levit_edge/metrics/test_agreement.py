"""Everybody against everybody, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from levit_edge.errors import LevitEdgeError
from levit_edge.metrics.agreement import Agreement, Participant, agreement, closeness

RANDOM = np.random.default_rng(0)


def _decibels(reference: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return 10 * math.log10((reference**2).sum() / ((reference - other) ** 2).sum())


def _participant(name: str, program: str | None = None) -> Participant:
    return Participant(name=name, target="onnx", runtime=f"{name} 1.0", executed=True, program=program)


def test_a_row_is_the_reference_of_its_columns() -> None:
    answers = [scale * RANDOM.normal(size=(50, 7)) for scale in (1, 2, 3)]
    table = agreement([(_participant(str(number)), logits) for number, logits in enumerate(answers)], "pets")
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
    assert agreement([(one, decided), (other, tied)], "").float_margin == pytest.approx(3 / math.sqrt(2))
    assert agreement([(one, tied), (other, decided)], "").float_margin == 0


def test_files_are_looked_up_against_their_own_program() -> None:
    one, other = np.eye(4), np.eye(4)[::-1]
    people = [
        (_participant("p"), one),
        (_participant("q"), other),
        (_participant("file of q", "q"), one),
        (_participant("file of p", "p"), one),
    ]
    found = {participant.name: figures for participant, *figures in agreement(people, "").against_program()}
    assert found == {"file of q": [0, pytest.approx(_decibels(other, one))], "file of p": [100, None]}


def test_closeness_is_one_cell() -> None:
    found = closeness(np.array([[0.0, 2.0], [2.0, 0.0]]), np.array([[0.0, 2.0], [0.0, 2.0]]), "host")
    assert (found.runtime, found.n, found.agreement_pct) == ("host", 2, 50)
    assert found.sqnr_db == pytest.approx(0)


def test_answers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(LevitEdgeError, match="NaN or infinite"):
        agreement([(_participant("a"), np.eye(2)), (_participant("b"), np.full((2, 2), np.nan))], "")


def test_a_table_that_is_not_square_is_refused() -> None:
    table = agreement([(_participant("a"), np.eye(2)), (_participant("b"), np.eye(2))], "")
    for field in ("agreement_pct", "sqnr_db"):
        with pytest.raises(ValueError, match=f"{field} needs 2 rows of 2 figures"):
            Agreement.model_validate(table.model_dump() | {field: ((1.0, 2.0),)})
