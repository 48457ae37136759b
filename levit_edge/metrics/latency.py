"""Paired latency: the runners take turns within every round, so that what slows one down slows the others too."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

NS_PER_MS = 1e6
_RESAMPLES = 2000
CONFIDENCE_PCT = 95

Runner = Callable[[], object]
Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class LatencyStats:
    """One runner's times. ``samples`` are in milliseconds, one per round, in the order of the rounds."""

    median_ms: float
    p90_ms: float
    samples: tuple[float, ...]

    @classmethod
    def of(cls, samples_ms: Sequence[float]) -> LatencyStats:
        """Median and 90th percentile (linear interpolation) of ``samples_ms``."""
        median, p90 = np.percentile(samples_ms, [50, 90])
        return cls(float(median), float(p90), tuple(samples_ms))


@dataclass(frozen=True)
class Speedup:
    """How many times faster: median of the rounds' ratios, with its 95 % interval ``low``..``high``."""

    median: float
    low: float
    high: float


def measure(
    runners: Mapping[str, Runner],
    *,
    runs: int,
    warmup: int,
    clock: Callable[[], int] = time.perf_counter_ns,
    progress: Progress | None = None,
) -> dict[str, LatencyStats]:
    """Time every runner once in each of ``runs`` rounds, after ``warmup`` rounds that are not counted.

    The order is reversed each round (A B, B A, A B ...), so that no runner always goes first. ``clock`` gives
    nanoseconds; ``progress(done, total)`` is called between rounds. The garbage collector is off meanwhile.
    Raises ValueError without a runner or a counted round.
    """
    if not runners or runs < 1 or warmup < 0:
        raise ValueError(f"nothing to measure: {len(runners)} runners, {runs} runs, {warmup} warm-up rounds")
    order = list(runners)
    samples: dict[str, list[float]] = {name: [] for name in order}
    with _no_garbage_collection():
        for turn in range(-warmup, runs):
            for name in order if turn % 2 == 0 else order[::-1]:
                start = clock()
                runners[name]()
                samples[name].append((clock() - start) / NS_PER_MS)
            if progress is not None:
                progress(turn + warmup + 1, warmup + runs)
    return {name: LatencyStats.of(times[warmup:]) for name, times in samples.items()}


def paired_speedup(reference: LatencyStats, candidate: LatencyStats) -> Speedup:
    """How many times faster ``candidate`` is than ``reference``, both from one :func:`measure`.

    The median over rounds of ``reference / candidate``. The interval is the percentile bootstrap over rounds with a
    fixed seed: the same samples give the same interval. Raises ValueError when the rounds do not match or a run took
    no time.
    """
    if len(reference.samples) != len(candidate.samples):
        raise ValueError(f"{len(reference.samples)} and {len(candidate.samples)} samples are not from the same rounds")
    if min(candidate.samples) <= 0:
        raise ValueError("a run took no time at all; the clock is too coarse for this model")
    ratios = np.array(reference.samples) / np.array(candidate.samples)  # [rounds]
    drawn = np.random.default_rng(0).choice(ratios, size=(_RESAMPLES, len(ratios)))
    tail = (100 - CONFIDENCE_PCT) / 2
    low, high = np.percentile(np.median(drawn, axis=1), [tail, 100 - tail])
    return Speedup(float(np.median(ratios)), float(low), float(high))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
