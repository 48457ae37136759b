"""The intervals against published values, other libraries and enumeration, and their error rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binom, binomtest

from levit_edge.gates.intervals import BOTH_95, images_for_drop, images_for_share, paired_drop, share, sqnr


def _score(lost: int, gained: int, n: int, drop: float) -> float:
    """The score statistic, with the constrained maximum of the likelihood found by search and not by formula."""

    def slope(rate: float) -> float:  # of the log likelihood, as a function of the rate of gained answers
        kept = 1 - 2 * rate - drop
        return lost / (rate + drop) + gained / rate - 2 * (n - lost - gained) / kept

    rate = brentq(slope, 1e-12, (1 - drop) / 2 - 1e-12)
    return float((lost - gained - n * drop) / math.sqrt(n * (2 * rate + drop * (1 - drop))))


@pytest.mark.parametrize(
    ("lost", "gained", "n"), [(40, 20, 160), (12, 3, 1000), (7, 5, 1000), (3, 1, 50), (90, 60, 5000)]
)
def test_the_bounds_of_a_drop_are_where_the_score_is_that_of_95_percent(lost: int, gained: int, n: int) -> None:
    bounds = paired_drop(lost, gained, n)
    assert bounds.low < 100 * (lost - gained) / n < bounds.high
    assert _score(lost, gained, n, bounds.high / 100) == pytest.approx(-1.644854, abs=1e-4)
    if gained and bounds.low > 0:
        assert _score(lost, gained, n, bounds.low / 100) == pytest.approx(1.644854, abs=1e-4)


def test_two_sided_95_percent_is_the_published_interval() -> None:
    """40 and 20 of 160: 0.0309 to 0.2181, as the R package PropCIs gives it (scoreci.mp)."""
    bounds = paired_drop(40, 20, 160, BOTH_95)
    assert (round(bounds.low / 100, 4), round(bounds.high / 100, 4)) == (0.0309, 0.2181)


def test_a_drop_mirrors_when_lost_and_gained_change_places() -> None:
    one, other = paired_drop(9, 4, 700), paired_drop(4, 9, 700)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


@pytest.mark.parametrize("n", [20, 268, 539, 1000])
def test_no_changed_answer_still_leaves_a_width(n: int) -> None:
    bounds = paired_drop(0, 0, n)
    assert bounds.high == pytest.approx(100 * 1.644854**2 / (n + 1.644854**2), rel=1e-3) and bounds.low == -bounds.high
    assert (bounds.high <= 1.0) is (n >= 268) and (bounds.high <= 0.5) is (n >= 539)


@pytest.mark.parametrize(("events", "n"), [(0, 200), (1, 200), (985, 1000), (200, 200), (3, 7)])
def test_the_bounds_of_a_share_are_those_of_clopper_and_pearson(events: int, n: int) -> None:
    bounds = share(events, n)
    low = binomtest(events, n, alternative="greater").proportion_ci(0.95, "exact").low
    high = binomtest(events, n, alternative="less").proportion_ci(0.95, "exact").high
    assert (bounds.low, bounds.high) == pytest.approx((100 * low, 100 * high))


def test_both_ends_of_a_share_hold_with_95_percent_together() -> None:
    both = binomtest(985, 1000).proportion_ci(0.95, "exact")
    bounds = share(985, 1000, BOTH_95)
    assert (bounds.low, bounds.high) == pytest.approx((100 * both.low, 100 * both.high))


def test_both_ends_of_a_ratio_are_those_of_the_bootstrap() -> None:
    generator = np.random.default_rng(0)
    signal = generator.lognormal(0, 0.4, 400)
    noise = signal * 1e-3 * generator.lognormal(0, 0.9, 400)
    drawn = generator.integers(0, 400, (4000, 400))
    ratios = 10 * np.log10(signal[drawn].sum(1) / noise[drawn].sum(1))
    bounds = sqnr(signal, noise, BOTH_95)
    assert (bounds.low, bounds.high) == pytest.approx(np.quantile(ratios, (0.025, 0.975)), abs=0.1)


def test_a_ratio_without_noise_is_sure_and_one_image_bounds_nothing() -> None:
    two, none = np.ones(2), np.zeros(2)
    assert (sqnr(two, none).low, sqnr(none, two).high) == (math.inf, -math.inf)
    assert (sqnr(two[:1], two[:1]).low, sqnr(two[:1], two[:1]).high) == (-math.inf, math.inf)
    assert sqnr(two, np.array([0.0, 2.0])).high == math.inf  # the error is as large as the ratio


def test_impossible_counts_are_refused() -> None:
    for lost, gained, n in [(3, 2, 4), (-1, 0, 4), (0, 0, 0)]:
        with pytest.raises(ValueError, match=f"{lost} lost and {gained} gained answers of {n} images"):
            paired_drop(lost, gained, n)
    for events, n in [(5, 4), (-1, 4), (0, 0)]:
        with pytest.raises(ValueError, match=f"{events} of {n} images"):
            share(events, n)


@pytest.mark.parametrize(
    ("n", "lost_rate", "gained_rate", "limit"), [(1000, 0.0235, 0.0085, 1.5), (800, 0.015, 0.005, 1.0)]
)
def test_a_drop_at_the_limit_passes_and_fails_in_one_sample_of_twenty(
    n: int, lost_rate: float, gained_rate: float, limit: float
) -> None:
    """Over all samples, weighted with their probability: nothing is drawn."""
    passed = failed = 0.0
    for lost in range(60):
        for gained in range(40):
            weight = binom.pmf(lost, n, lost_rate) * binom.pmf(gained, n - lost, gained_rate / (1 - lost_rate))
            bounds = paired_drop(lost, gained, n)
            passed += weight * (bounds.high <= limit)
            failed += weight * (bounds.low > limit)
    assert 0.02 < passed < 0.06 and 0.02 < failed < 0.06


@pytest.mark.parametrize(("lost", "gained", "n", "limit"), [(7, 5, 1000, 0.5), (40, 5, 1000, 2.0), (0, 0, 100, 1.0)])
def test_so_many_images_decide_nine_times_in_ten(lost: int, gained: int, n: int, limit: float) -> None:
    images = images_for_drop(lost, gained, n, limit)
    assert images is not None and images > n
    rates = [lost / n, gained / n, 1 - (lost + gained) / n]
    draws = np.random.default_rng(0).multinomial(images, rates, 400)
    found = [paired_drop(int(drawn[0]), int(drawn[1]), images) for drawn in draws]
    decided = np.mean([bounds.high <= limit or bounds.low > limit for bounds in found])
    assert decided >= 0.85


def test_nothing_decides_at_the_limit_itself() -> None:
    assert images_for_drop(10, 5, 1000, 0.5) is None
    assert images_for_share(980, 1000, 98.0) is None and images_for_share(100, 100, 100.0) is None


def test_so_many_images_decide_a_share() -> None:
    images = images_for_share(985, 1000, 98.0)
    assert images is not None and images > 1000
    draws = np.random.default_rng(0).binomial(images, 0.985, 400)
    assert np.mean([share(int(events), images).low >= 98.0 for events in draws]) >= 0.85
    worse = images_for_share(96, 100, 98.0)
    assert worse is not None and share(round(0.96 * worse), worse).high < 98.0
