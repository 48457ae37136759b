"""The statistics behind the verdicts: how far a figure of these images can be from that of all images.

In a verdict every bound holds with 95 % confidence by itself (one-sided). A gate passes when the bound on the bad side
keeps the limit, and fails when the bound on the good side misses it; so each of the two is wrong in at most 5 % of
samples. An interval that is shown beside a figure holds with 95 % as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import NDArray
from scipy.special import betaincinv

from levit_edge.metrics.sqnr import decibels

CONFIDENCE_PCT = 95


class Ends(NamedTuple):
    """What may lie outside each end of an interval: a share, and the percentile of the normal distribution for it."""

    tail: float
    z: float


EACH_95 = Ends(1 - CONFIDENCE_PCT / 100, 1.6448536269514722)  # each end holds with 95 % confidence by itself
BOTH_95 = Ends(0.025, 1.959963984540054)  # both ends together do
_Z_POWER = EACH_95.z + 1.2815515655446004  # and the 90th on top: a sample of that size decides nine times in ten
_MOST_IMAGES = 10_000_000
_HALVINGS = 60  # of an interval no wider than 2, to below 1e-17


@dataclass(frozen=True)
class Interval:
    """The true value is at least ``low``, and at most ``high``; :class:`Ends` say how confidently."""

    low: float
    high: float


def paired_drop(lost: int, gained: int, n: int, ends: Ends = EACH_95) -> Interval:
    """Bounds of the drop in percentage points where, of ``n`` answers, ``lost`` became wrong and ``gained`` right.

    The score interval for the difference of two paired proportions: Tango, "Equivalence test and confidence interval
    for the difference in proportions for the paired-sample design", Statistics in Medicine 17 (1998), 891-908. Only the
    images whose answer changed carry information, and a sample without any still has a width: 100 * 2.7 / n at the top.
    Raises ValueError when there are more changes than images, or no image.
    """
    if n < 1 or lost < 0 or gained < 0 or lost + gained > n:
        raise ValueError(f"{lost} lost and {gained} gained answers of {n} images")
    return Interval(100 * _drop_bound(lost, gained, n, -ends.z), 100 * _drop_bound(lost, gained, n, ends.z))


def _drop_bound(lost: float, gained: float, n: float, z: float) -> float:
    """The difference of proportions, -1..1, whose score is ``-z``: the upper bound where ``z`` is positive."""
    estimate = (lost - gained) / n
    inside, outside = estimate, math.copysign(1.0, z)
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if abs(_score(lost, gained, n, middle)) < abs(z):
            inside = middle
        else:
            outside = middle
    return (inside + outside) / 2


def _score(lost: float, gained: float, n: float, drop: float) -> float:
    """Tango's score statistic of the hypothesis that the true difference of proportions is ``drop``, -1..1."""
    a = 2 * n
    b = -lost - gained + (2 * n - lost + gained) * drop
    c = -gained * drop * (1 - drop)
    rate = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)  # of gained answers, most likely under the hypothesis
    variance = n * (2 * rate + drop * (1 - drop))
    surplus = lost - gained - n * drop
    if variance <= 0:
        return 0.0 if surplus == 0 else math.copysign(math.inf, surplus)
    return surplus / math.sqrt(variance)


def share(events: int, n: int, ends: Ends = EACH_95) -> Interval:
    """Bounds of a share in percent, 0 to 100, where ``events`` of ``n`` images count.

    Exact binomial: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the
    binomial", Biometrika 26 (1934), 404-413. Raises ValueError when there are more events than images, or no image.
    """
    if n < 1 or not 0 <= events <= n:
        raise ValueError(f"{events} of {n} images")
    low, high = (100 * _share_bound(events, n, upper=upper, tail=ends.tail) for upper in (False, True))
    return Interval(low, high)


def _share_bound(events: float, n: float, *, upper: bool, tail: float) -> float:
    if upper:
        return 1.0 if events >= n else float(betaincinv(events + 1, n - events, 1 - tail))
    return 0.0 if events <= 0 else float(betaincinv(events, n - events + 1, tail))


def sqnr(signal: NDArray[Any], noise: NDArray[Any], ends: Ends = EACH_95) -> Interval:
    """Bounds in dB of a signal to noise ratio, from the sums of squares of each image, float64 [n] each.

    The interval of a ratio of two sums over images (Cochran 1977, Sampling Techniques, section 2.11). Both ends are the
    ratio itself where there is no noise or no signal; a single image bounds nothing.
    """
    n, total = len(noise), float(noise.sum())
    found = decibels(float(signal.sum()), total)
    if not math.isfinite(found):
        return Interval(found, found)
    if n < 2:
        return Interval(-math.inf, math.inf)
    variance = float(((noise - total / signal.sum() * signal) ** 2).sum()) * n / (n - 1)
    error = ends.z * math.sqrt(variance) / total
    high = found - 10 * math.log10(1 - error) if error < 1 else math.inf
    return Interval(found - 10 * math.log10(1 + error), high)


def images_for_drop(lost: int, gained: int, n: int, limit_pp: float) -> int | None:
    """How many images decide whether the drop keeps ``limit_pp``, nine times in ten, at the rates of this sample.

    None where no number of images does, because the estimate is the limit itself, or more than ten million.
    """
    limit, below = limit_pp / 100, (lost - gained) / n < limit_pp / 100
    z = _Z_POWER if below else -_Z_POWER

    def decided(images: float) -> bool:
        bound = _drop_bound(lost * images / n, gained * images / n, images, z)
        return bound <= limit if below else bound > limit

    return _fewest(decided)


def images_for_share(events: int, n: int, least_pct: float) -> int | None:
    """The same for a share of ``events`` in ``n`` that must be at least ``least_pct``."""
    least, above, tail = least_pct / 100, events / n > least_pct / 100, 0.5 * math.erfc(_Z_POWER / math.sqrt(2))

    def decided(images: float) -> bool:
        bound = _share_bound(events * images / n, images, upper=not above, tail=tail)
        return bound >= least if above else bound < least

    return _fewest(decided)


def _fewest(decided: Callable[[float], bool]) -> int | None:
    """The smallest number of images that is ``decided``, which stays true from there on."""
    most = 1
    while not decided(most):
        most *= 2
        if most > _MOST_IMAGES:
            return None
    least = most // 2
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if decided(middle) else (middle, most)
    return most
