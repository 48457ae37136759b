"""The statistics behind the verdicts: which differences can be an accident of the images that were sampled.

A plain comparison with a limit would fail a bundle because of the images that happened to be in the sample. So a value
beyond its limit fails only when chance produces such a value in less than 5 % of cases:

- A drop in top-1 comes from the few images whose answer became wrong or right. Of a thousand images, a dozen change
  from one processor to another; 6 more lost than gained are 0.6 pp. The one-sided sign test on those images (McNemar's
  exact test) decides. With 50,000 images it tolerates less than the limit does, and the plain limit holds.
- An agreement is judged by the exact binomial test where a single image weighs more than the limit allows: fewer than
  50 images for 98 %.

A limit of 0 pp or of 100 % is applied as it stands.
"""

from __future__ import annotations

import math

from levit_edge.metrics.accuracy import Accuracy

CHANCE = 0.05
NEAR_CERTAIN = 0.001
UNDECIDED = 0.5  # standard deviations; random models of 1,000 classes have 0.1 to 0.3, the trained demo 1.6
AT_CHANCE = "the float model does no better than guessing on these images: check the weights and the labels"


def at_chance(accuracy: Accuracy | None, classes: int | None) -> bool:
    """True when the float model guesses: its top-1 is chance (one-sided exact test, 0.1 %) and its answers near ties.

    Any rounding changes such answers, so agreement says nothing about the quantization. A trained model with the wrong
    labels is at chance too, but its answers are no near ties: it is still held to the limit.
    """
    if accuracy is None or accuracy.top1_fp32_pct is None or accuracy.float_margin is None:
        return False
    if not classes or classes < 2:
        return False
    n = accuracy.n_labelled
    hits, by_guessing = round(accuracy.top1_fp32_pct * n / 100), tolerated_events(n, 1 / classes, NEAR_CERTAIN)
    return hits <= by_guessing < n and accuracy.float_margin < UNDECIDED


def drop_limit(accuracy: Accuracy, limit: float) -> float:
    """``limit`` in percentage points, or the drop that chance can cause where the measured drop exceeds the limit."""
    drop, lost, gained = accuracy.top1_drop_pp, accuracy.top1_lost, accuracy.top1_gained
    if drop is None or drop <= limit or limit == 0 or lost is None or gained is None:
        return limit
    return max(limit, 100 * tolerated_net_loss(lost + gained) / accuracy.n_labelled)


def agreement_limit(agreement: float, n: int, limit: float) -> float:
    """``limit`` in percent, or the agreement that chance can cause where ``n`` images are too few for the limit."""
    if agreement >= limit or not 0 < 100 - limit < 100 / n:
        return limit
    return min(limit, 100 * (n - tolerated_events(n, 1 - limit / 100)) / n)


def too_few(n: int, limit: float) -> str:
    """Why a limit was widened; the caller appends what chance can cause."""
    return f"{n} images are too few to resolve the limit {limit:g}"


def tolerated_net_loss(flips: int) -> int:
    """Largest surplus of lost over gained answers that a fair coin gives ``flips`` changed answers by chance."""
    return 2 * tolerated_events(flips, 0.5) - flips


def tolerated_events(n: int, rate: float, chance: float = CHANCE) -> int:
    """Largest count that ``n`` trials of probability ``rate`` reach or exceed in at least ``chance`` of cases."""
    tail = 0.0
    for count in range(n, -1, -1):
        # The binomial probability of exactly ``count``, by logarithms.
        ways = math.lgamma(n + 1) - math.lgamma(count + 1) - math.lgamma(n - count + 1)
        tail += math.exp(ways + count * math.log(rate) + (n - count) * math.log1p(-rate))
        if tail >= chance:
            return count
    return 0
