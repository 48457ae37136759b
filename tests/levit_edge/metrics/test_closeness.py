"""Two runs of one file, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from levit_edge.errors import LevitEdgeError
from levit_edge.metrics.closeness import Closeness, ClosenessMeter


def test_figures_by_hand() -> None:
    meter = ClosenessMeter()
    meter.update(np.array([[0.0, 2.0], [2.0, 0.0]]), np.array([[0.0, 2.0], [0.0, 2.0]]))
    found = meter.result("host")
    assert (found.runtime, found.n, found.agreement_pct) == ("host", 2, 50)
    assert found.sqnr_db == pytest.approx(0)


def _measured(batch: int) -> Closeness:
    random, meter = np.random.default_rng(3), ClosenessMeter()
    reference = random.normal(size=(60, 5)).astype(np.float32)
    logits = reference + random.normal(scale=0.5, size=reference.shape).astype(np.float32)
    for start in range(0, 60, batch):
        meter.update(reference[start : start + batch], logits[start : start + batch])
    return meter.result("host")


@pytest.mark.parametrize("batch", [1, 7, 59])
def test_batches_do_not_matter(batch: int) -> None:
    whole, pieces = _measured(60), _measured(batch)
    assert 0 < whole.agreement_pct < 100
    assert (pieces.n, pieces.agreement_pct) == (60, whole.agreement_pct)
    assert pieces.sqnr_db == pytest.approx(whole.sqnr_db, abs=1e-9)


def test_identical_answers_have_no_finite_sqnr() -> None:
    meter = ClosenessMeter()
    meter.update(np.eye(3), np.eye(3))
    assert meter.result("host") == Closeness(runtime="host", n=3, agreement_pct=100, sqnr_db=None)


@pytest.mark.parametrize("which", [0, 1])
def test_who_gave_nan_is_named(which: int) -> None:
    pair = [np.ones((2, 3)), np.ones((2, 3))]
    pair[which][1, 2] = np.nan
    with pytest.raises(LevitEdgeError, match=("onnx here", "onnx on a board")[which] + " gave NaN or infinite logits"):
        ClosenessMeter("onnx here", "onnx on a board").update(*pair)


@pytest.mark.parametrize("shapes", [((2, 3), (2, 4)), ((2, 3), (1, 3)), ((3,), (3,)), ((2, 0), (2, 0))])
def test_shapes_must_match(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="shape"):
        ClosenessMeter().update(np.zeros(shapes[0]), np.zeros(shapes[1]))


def test_no_image_no_figures() -> None:
    with pytest.raises(ValueError, match="no image"):
        ClosenessMeter().result("host")
