"""Pure checks of a report: against limits, and against the report of an earlier release.

Chance. A plain comparison would fail bundles for what the sample of images happened to be, so a value beyond its
limit fails only if chance explains it in less than 5 % of cases. A drop is the difference of few images that became
wrong or right: of a thousand, a dozen turn over from one processor to another, and 6 more lost than gained are 0.6 pp.
It is judged by the one-sided sign test on those images (McNemar's test, exact), however many images there are; at
50,000 the test tolerates less than the limit does and changes nothing. An agreement is judged by the exact binomial
test, when one image alone weighs more than the limit leaves (fewer than 50 images for 98 %). The result carries the
widened limit and a note. A limit of 0 pp or 100 % is taken literally.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from levit_edge.gates.limits import Thresholds
from levit_edge.metrics.accuracy import Accuracy
from levit_edge.metrics.latency import CONFIDENCE_PCT
from levit_edge.report.schema import DeviceAccuracy, GateResult, Latency, TargetReport

_CHANCE = 0.05
_SURELY = 0.001
UNDECIDED = 0.5  # standard deviations; random LeViTs of 1,000 classes have 0.1 to 0.3, the trained demo 1.6
AT_CHANCE = "the float model does no better than guessing on these images: check the weights and the labels"


def evaluate(target: TargetReport, thresholds: Thresholds, classes: int | None = None) -> tuple[GateResult, ...]:
    """One result per limit that is set, in a fixed order; a value nobody measured gives ``passed=None``.

    ``classes`` is the model's number of classes: it tells whether the float model knows these images at all.
    """
    return tuple(_gates(target, thresholds, classes))


def _gates(target: TargetReport, limits: Thresholds, classes: int | None) -> Iterator[GateResult]:
    if limits.max_top1_drop_pp is not None:
        yield _top1_drop(target.accuracy, limits.max_top1_drop_pp)
    if limits.min_agreement_pct is not None:
        yield _agreement(target.accuracy, limits.min_agreement_pct, classes)
    if limits.min_device_agreement_pct is not None:
        for device, found in target.devices.items():
            yield _device_agreement(device, found, limits.min_device_agreement_pct, classes)
    if limits.max_size_ratio is not None:
        yield at_most("size_ratio", target.size_ratio, limits.max_size_ratio)
    if limits.min_speedup is not None:
        yield _speedup(target.latency, limits.min_speedup)


def at_most(name: str, value: float, limit: float, note: str = "") -> GateResult:
    """Passed when ``value`` does not exceed ``limit``."""
    return GateResult(name=name, value=value, limit=limit, passed=value <= limit, note=note)


def at_least(name: str, value: float, limit: float, note: str = "") -> GateResult:
    """Passed when ``value`` is not below ``limit``."""
    return GateResult(name=name, value=value, limit=limit, passed=value >= limit, note=note)


def skipped(name: str, limit: float, note: str) -> GateResult:
    """A check without a value."""
    return GateResult(name=name, value=None, limit=limit, passed=None, note=note)


def _top1_drop(accuracy: Accuracy | None, limit: float) -> GateResult:
    name = "top1_drop_pp"
    if accuracy is None:
        return skipped(name, limit, "accuracy was not measured")
    if accuracy.top1_drop_pp is None:
        return skipped(name, limit, "no image has a known class")
    n, drop = accuracy.n_labelled, accuracy.top1_drop_pp
    lost, gained = accuracy.top1_lost, accuracy.top1_gained
    if drop <= limit or limit == 0 or lost is None or gained is None:
        return at_most(name, drop, limit, _how(accuracy))
    widened = max(limit, 100 * tolerated_net_loss(lost + gained) / n)
    return at_most(name, drop, widened, _widened(_how(accuracy), n, limit, widened))


def _agreement(accuracy: Accuracy | None, limit: float, classes: int | None) -> GateResult:
    name = "agreement_pct"
    if accuracy is None:
        return skipped(name, limit, "accuracy was not measured")
    if at_chance(accuracy, classes):
        return skipped(name, limit, AT_CHANCE)
    return _agreed(name, accuracy.agreement_pct, accuracy.n, limit, _how(accuracy))


def _device_agreement(device: str, found: DeviceAccuracy, limit: float, classes: int | None) -> GateResult:
    name = "device_agreement_pct"
    if at_chance(found.accuracy, classes):
        return skipped(name, limit, AT_CHANCE)
    how = f"{device} against {found.local.runtime} of this host"
    return _agreed(name, found.local.agreement_pct, found.local.n, limit, how)


def _agreed(name: str, agreement: float, n: int, limit: float, how: str) -> GateResult:
    widened = agreement_limit(agreement, n, limit)
    return at_least(name, agreement, widened, _widened(how, n, limit, widened))


def agreement_limit(agreement: float, n: int, limit: float) -> float:
    """``limit`` in percent; what chance explains where ``agreement`` misses it and ``n`` images cannot resolve it."""
    if agreement >= limit or not 0 < 100 - limit < 100 / n:
        return limit
    return min(limit, 100 * (n - tolerated_events(n, 1 - limit / 100)) / n)


def _speedup(latency: Latency | None, limit: float) -> GateResult:
    """Fails only when the whole interval of the speedup lies below the limit: noise alone fails no build."""
    name = "speedup"
    if latency is None:
        return skipped(name, limit, "no runtime ran here")
    how = f"{latency.runtime}, threads={latency.threads}"
    if latency.speedup < limit <= latency.speedup_high:
        how += f"; limit {limit:g} lies within the {CONFIDENCE_PCT} % interval, up to {latency.speedup_high:.3f}"
        return at_least(name, latency.speedup, latency.speedup, how)
    return at_least(name, latency.speedup, limit, how)


def _how(accuracy: Accuracy) -> str:
    return f"{accuracy.runtime}, {'executed' if accuracy.executed else 'simulated'}"


def _widened(how: str, n: int, limit: float, widened: float) -> str:
    if widened == limit:
        return how
    return f"{how}; {n} images cannot resolve the limit {limit:g}, so it is widened to what chance explains"


def at_chance(accuracy: Accuracy, classes: int | None) -> bool:
    """True when the float model guesses: its top-1 is chance (one-sided exact test, 0.1 %) and its answers near ties.

    Any rounding turns such answers over, so agreement says nothing about the quantization. A trained model whose labels
    are mixed up is at chance too, but decided: it is still held to the limit.
    """
    if accuracy.top1_fp32_pct is None or not classes or classes < 2 or accuracy.float_margin is None:
        return False
    n = accuracy.n_labelled
    hits, explained = round(accuracy.top1_fp32_pct * n / 100), tolerated_events(n, 1 / classes, _SURELY)
    return hits <= explained < n and accuracy.float_margin < UNDECIDED


def tolerated_net_loss(flips: int) -> int:
    """Largest surplus of lost over gained answers among ``flips`` changed ones that a fair coin explains."""
    return 2 * tolerated_events(flips, 0.5) - flips


def tolerated_events(n: int, rate: float, chance: float = _CHANCE) -> int:
    """Largest count that ``n`` trials of probability ``rate`` reach or exceed in at least ``chance`` of cases."""
    tail = 0.0
    for count in range(n, -1, -1):
        tail += _binomial(n, count, rate)
        if tail >= chance:
            return count
    return 0


def _binomial(n: int, count: int, rate: float) -> float:
    ways = math.lgamma(n + 1) - math.lgamma(count + 1) - math.lgamma(n - count + 1)
    return math.exp(ways + count * math.log(rate) + (n - count) * math.log1p(-rate))
