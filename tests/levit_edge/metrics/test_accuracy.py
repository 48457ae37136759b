"""Accuracy figures, worked by hand."""

from __future__ import annotations

import json
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from levit_edge.errors import LevitEdgeError
from levit_edge.metrics.accuracy import Accuracy, AccuracyMeter
from tests.levit_edge.report import reports


def _measure(reference: Any, logits: Any, classes: Any, batch: int = 100) -> Accuracy:
    meter = AccuracyMeter()
    reference, logits, classes = np.array(reference, float), np.array(logits, float), np.array(classes)
    for start in range(0, len(classes), batch):
        part = slice(start, start + batch)
        meter.update(reference[part], logits[part], classes[part])
    return meter.result(runtime="numpy", executed=True)


def test_figures_by_hand() -> None:
    reference = [[3, 0, 0], [0, 3, 0], [0, 0, 3], [3, 0, 0]]
    logits = [[2, 0, 0], [0, 3, 0], [4, 0, 3], [0, 3, 0]]
    figures = _measure(reference, logits, [0, 1, 2, 1])
    assert (figures.runtime, figures.executed, figures.n, figures.n_labelled) == ("numpy", True, 4, 4)
    assert (figures.top1_fp32_pct, figures.top1_pct, figures.top1_drop_pp) == (75.0, 75.0, 0.0)
    assert (figures.top1_lost, figures.top1_gained) == (1, 1)
    assert figures.agreement_pct == 50.0
    assert figures.top5_pct == 100.0  # three classes: every one is among the best five
    noise = 1 + 0 + 16 + (9 + 9)
    assert figures.sqnr_db == pytest.approx(10 * math.log10(36 / noise), abs=1e-12)


def test_a_drop_is_positive_when_the_built_model_is_worse() -> None:
    figures = _measure([[1, 0], [1, 0]], [[1, 0], [0, 1]], [0, 0])
    assert (figures.top1_fp32_pct, figures.top1_pct, figures.top1_drop_pp) == (100.0, 50.0, 50.0)
    assert (figures.top1_lost, figures.top1_gained) == (1, 0)


def _random() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    generator = np.random.default_rng(7)
    reference = generator.normal(size=(64, 9))
    return reference, reference + generator.normal(scale=0.3, size=(64, 9)), generator.integers(-1, 9, size=64)


def test_batches_do_not_matter() -> None:
    whole = _measure(*_random())
    for batch in (1, 7, 63):
        pieces = _measure(*_random(), batch=batch)
        sums = {"sqnr_db": whole.sqnr_db, "float_margin": whole.float_margin}
        assert pieces.model_copy(update=sums) == whole
        assert pieces.float_margin == pytest.approx(whole.float_margin)
        assert pieces.sqnr_db == pytest.approx(whole.sqnr_db, abs=1e-9)


def test_top5_against_a_plain_count() -> None:
    _, logits, classes = _random()
    right = [
        label in sorted(range(9), key=lambda k: (-row[k], k))[:5] for row, label in zip(logits, classes, strict=True)
    ]
    expected = 100 * sum(right) / (classes >= 0).sum()
    assert 0 < expected < 100
    assert _measure(logits, logits, classes).top5_pct == pytest.approx(expected)


def test_images_of_unknown_class_count_for_agreement_only() -> None:
    figures = _measure([[1, 0], [1, 0], [1, 0]], [[1, 0], [0, 1], [0, 1]], [0, -1, -1])
    assert (figures.n, figures.n_labelled, figures.top1_pct) == (3, 1, 100.0)
    assert figures.agreement_pct == pytest.approx(100 / 3)


def test_without_any_class_the_top_figures_are_absent() -> None:
    figures = _measure([[1, 0]], [[1, 0.5]], [-1])
    assert figures.n_labelled == 0
    assert (figures.top1_fp32_pct, figures.top1_pct, figures.top1_drop_pp, figures.top5_pct) == (None,) * 4
    assert (figures.top1_lost, figures.top1_gained) == (None, None)


def test_ties_take_the_lowest_index() -> None:
    figures = _measure([[1, 1, 0]], [[0, 1, 1]], [0])
    assert (figures.top1_fp32_pct, figures.top1_pct, figures.agreement_pct) == (100.0, 0.0, 0.0)
    tied = np.random.default_rng(1).integers(0, 3, size=(1, 1000))
    best = np.flatnonzero(tied[0] == 2)
    assert [_measure(tied, tied, [index]).top5_pct for index in best[:7]] == [100.0] * 5 + [0.0] * 2


def test_sqnr_without_a_finite_value() -> None:
    assert _measure([[1, 2]], [[1, 2]], [-1]).sqnr_db is None
    assert _measure([[0, 0]], [[1, 2]], [-1]).sqnr_db is None


def test_sqnr_is_summed_in_float64() -> None:
    meter = AccuracyMeter()
    reference = np.full((1, 2), 1e6, np.float32)
    meter.update(reference, reference + np.float32(0.0625), np.array([-1]))
    assert meter.result(runtime="x", executed=False).sqnr_db == pytest.approx(20 * math.log10(1e6 / 0.0625), abs=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_not_a_number_is_refused(bad: float, which: int) -> None:
    pair = [np.ones((2, 3)), np.ones((2, 3))]
    pair[which][1, 2] = bad
    with pytest.raises(LevitEdgeError, match=("reference", "built model")[which]):
        AccuracyMeter().update(pair[0], pair[1], np.array([0, 0]))


@pytest.mark.parametrize(
    ("reference", "logits", "classes"),
    [((2, 3), (2, 4), 2), ((2, 3), (1, 3), 2), ((2, 3), (2, 3), 3), ((3,), (3,), 3), ((2, 0), (2, 0), 2)],
)
def test_shapes_must_match(reference: tuple[int, ...], logits: tuple[int, ...], classes: int) -> None:
    with pytest.raises(ValueError, match="shape"):
        AccuracyMeter().update(np.zeros(reference), np.zeros(logits), np.zeros(classes, int))


@pytest.mark.parametrize("index", [-2, 3])
def test_class_indices_must_exist(index: int) -> None:
    with pytest.raises(ValueError, match=r"-1\.\.2"):
        AccuracyMeter().update(np.zeros((1, 3)), np.zeros((1, 3)), np.array([index]))


def test_no_image_no_figures() -> None:
    with pytest.raises(ValueError, match="no image"):
        AccuracyMeter().result(runtime="x", executed=True)


def test_figures_for_labels_need_labels() -> None:
    with pytest.raises(ValidationError, match="n_labelled"):
        Accuracy(runtime="x", executed=True, n=1, top1_pct=50.0, agreement_pct=1, sqnr_db=None)


def test_outcomes_say_what_became_of_each_image() -> None:
    found = _measure(
        [[3, 0, 0], [0, 3, 0], [0, 0, 3], [3, 0, 0]], [[2, 0, 0], [0, 3, 0], [4, 0, 3], [0, 3, 0]], [0, -1, 2, 1]
    )
    assert found.outcomes is not None
    flags = found.outcomes.flags()
    assert flags.right_fp32.tolist() == [True, False, True, False]
    assert flags.right.tolist() == [True, False, False, True]
    assert flags.agrees.tolist() == [True, True, False, False]


def test_accuracy_survives_json_and_earlier_ones_have_no_outcomes() -> None:
    found = _measure(*_random())
    assert Accuracy.model_validate_json(found.model_dump_json()) == found
    assert Accuracy.model_validate(found.model_dump(exclude={"outcomes"})).outcomes is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"n": 65}, "n is 65, but the outcomes of the images give 64"),
        ({"agreement_pct": 99.5}, "agreement_pct is 99.5, but"),
        ({"top1_fp32_pct": 90.0}, "top1_fp32_pct is 90.0, but"),
        ({"top1_pct": 90.0}, "top1_pct is 90.0, but"),
        ({"top1_drop_pp": 0.5}, "top1_drop_pp is 0.5, but"),
        ({"top1_lost": 60}, "top1_lost is 60, but"),
        ({"top1_gained": 60}, "top1_gained is 60, but"),
        ({"top1_lost": None}, "top1_lost is None, but"),
        ({"n_labelled": 60}, "top1_fp32_pct is .*, but"),
        ({"n_labelled": 2}, "n_labelled is 2, but the outcomes have"),
    ],
)
def test_a_figure_that_its_outcomes_contradict_is_refused(change: dict[str, Any], reason: str) -> None:
    data = json.loads(_measure(*_random()).model_dump_json())
    with pytest.raises(ValidationError, match=reason) as failure:
        Accuracy.model_validate(data | change)
    assert failure.value.error_count() == 1


def test_outcomes_of_other_images_are_refused() -> None:
    reference, logits, classes = _random()
    found, other = _measure(reference, logits, classes), _measure(reference[::-1], logits, classes)
    data = found.model_dump()
    with pytest.raises(ValidationError, match="but the outcomes of the images give"):
        Accuracy.model_validate(data | {"outcomes": other.model_dump()["outcomes"]})


def test_without_any_class_no_image_is_right() -> None:
    found = _measure([[1, 0], [0, 1]], [[1, 0.5], [1, 0]], [-1, -1])
    assert found.outcomes is not None
    assert [flags.tolist() for flags in found.outcomes.flags()] == [[False] * 2, [False] * 2, [True, False]]
    right = found.outcomes.of(np.array([True, False]), np.array([True, False]), np.array([True, False]))
    with pytest.raises(ValidationError, match="n_labelled is 0, but the outcomes have 1 right answers"):
        Accuracy.model_validate(found.model_dump() | {"outcomes": right.model_dump()})


def test_an_image_takes_a_few_bytes() -> None:
    meter, (reference, logits, classes) = AccuracyMeter(), _random()
    meter.update(reference, logits, classes)
    tracemalloc.start()
    try:
        for _ in range(200):
            meter.update(reference, logits, classes)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 5 * 200 * len(classes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"top1_lost": 900, "top1_gained": 900}, "900 lost and 900 gained answers are more than 1000 images"),
        ({"top1_drop_pp": 0.9}, r"top1_drop_pp is 0\.9, but the figures beside it give 0\.3"),
        ({"top1_lost": 9}, r"top1_drop_pp is 0\.3, but the figures beside it give 0\.7"),
        ({"n": 10**20}, "less than or equal to 100000000"),
    ],
)
def test_figures_that_contradict_each_other_are_refused_without_outcomes_too(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        reports.accuracy(**changes)
