"""Verdicts on figures from a sample of images or of timed rounds: the interval decides, and never the point alone."""

from __future__ import annotations

from levit_edge.gates.intervals import (
    CONFIDENCE_PCT,
    Interval,
    images_for_drop,
    images_for_share,
    paired_drop,
    share,
)
from levit_edge.report.gate_result import GateResult, Outcome
from levit_edge.report.schema import Latency

FEWEST_ROUNDS = 10


def judge_drop(name: str, lost: int, gained: int, n: int, limit_pp: float, source: str) -> GateResult:
    """A paired non-inferiority test: may the answers that changed cost more than ``limit_pp`` percentage points?"""
    bounds = paired_drop(lost, gained, n)
    outcome = _at_most(bounds, limit_pp)
    images = images_for_drop(lost, gained, n, limit_pp) if outcome == "undecided" else None
    note = f"{source}; {lost} answers lost and {gained} gained on {n} images"
    return GateResult(
        name=name,
        outcome=outcome,
        value=100 * (lost - gained) / n,
        limit=limit_pp,
        low=bounds.low,
        high=bounds.high,
        images=images,
        note=note + _wanted(outcome, n, images),
    )


def judge_share(name: str, agreed_pct: float, n: int, least_pct: float, source: str) -> GateResult:
    """An exact binomial test: is the share of images in percent at least ``least_pct``?"""
    events = round(agreed_pct * n / 100)
    bounds = share(events, n)
    outcome: Outcome = "undecided"
    if bounds.low >= least_pct:
        outcome = "passed"
    elif bounds.high < least_pct:
        outcome = "failed"
    images = images_for_share(events, n, least_pct) if outcome == "undecided" else None
    note = f"{source}; {n - events} of {n} answers differ"
    return GateResult(
        name=name,
        outcome=outcome,
        value=agreed_pct,
        limit=least_pct,
        low=bounds.low,
        high=bounds.high,
        images=images,
        note=note + _wanted(outcome, n, images),
    )


def judge_speedup(name: str, latency: Latency, least: float) -> GateResult:
    """The interval of the paired ratio against ``least``: is the built model that many times faster?

    Fewer than FEWEST_ROUNDS give no interval to rely on: a bootstrap of one round has no width at all.
    """
    outcome: Outcome = "undecided"
    if latency.runs < FEWEST_ROUNDS:
        pass
    elif latency.speedup_low >= least:
        outcome = "passed"
    elif latency.speedup_high < least:
        outcome = "failed"
    note = f"{latency.source}, {latency.runs} rounds"
    if latency.runs < FEWEST_ROUNDS:
        note += f"; at least {FEWEST_ROUNDS} --runs give an interval"
    elif outcome == "undecided":
        note += "; the interval holds the limit: more --runs, or a quieter machine, narrow it"
    return GateResult(
        name=name,
        outcome=outcome,
        value=latency.speedup,
        limit=least,
        low=latency.speedup_low,
        high=latency.speedup_high,
        note=note,
    )


def _at_most(bounds: Interval, limit: float) -> Outcome:
    if bounds.high <= limit:
        return "passed"
    return "failed" if bounds.low > limit else "undecided"


def _wanted(outcome: Outcome, n: int, images: int | None) -> str:
    """What is missing for a decision, for the end of a note."""
    if outcome != "undecided":
        return ""
    if images is None:
        return f"; at {CONFIDENCE_PCT} % confidence no number of images decides: the estimate is at the limit"
    return f"; {n} images cannot decide at {CONFIDENCE_PCT} % confidence, about {images} would"
