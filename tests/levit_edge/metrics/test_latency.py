"""Paired latency on clocks that we wind by hand."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable

import pytest

from levit_edge.metrics.latency import LatencyStats, measure, paired_speedup


class Clock:
    """Nanoseconds that pass only when a runner says so."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.calls: list[str] = []

    def __call__(self) -> int:
        return self.now_ns

    def runner(self, name: str, times_ms: Callable[[int], float]) -> Callable[[], None]:
        """A runner whose n-th call takes ``times_ms(n)``."""

        def run() -> None:
            self.now_ns += round(times_ms(self.calls.count(name)) * 1e6)
            self.calls.append(name)

        return run


def test_medians_and_percentiles_without_the_warmup() -> None:
    clock = Clock()
    runners = {"a": clock.runner("a", lambda n: 100 if n < 2 else n), "b": clock.runner("b", lambda n: 5)}
    stats = measure(runners, runs=10, warmup=2, clock=clock)
    assert stats["a"].samples == pytest.approx(range(2, 12))
    assert stats["a"].median_ms == pytest.approx(6.5)
    assert stats["a"].p90_ms == pytest.approx(10.1)
    assert stats["b"] == LatencyStats(5.0, 5.0, (5.0,) * 10)


def test_the_order_turns_round_each_time() -> None:
    clock = Clock()
    runners = {name: clock.runner(name, lambda n: 1) for name in "abc"}
    measure(runners, runs=3, warmup=1, clock=clock)
    assert "".join(clock.calls) == "cba" + "abc" + "cba" + "abc"


def test_progress_counts_every_round() -> None:
    seen: list[tuple[int, int]] = []
    measure({"a": lambda: None}, runs=2, warmup=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_the_garbage_collector_rests_and_comes_back() -> None:
    seen: list[bool] = []
    measure({"a": lambda: seen.append(gc.isenabled())}, runs=1, warmup=0)
    assert seen == [False]
    assert gc.isenabled()

    def fail() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        measure({"a": fail}, runs=1, warmup=0)
    assert gc.isenabled()


def test_a_real_clock_is_the_default() -> None:
    stats = measure({"a": lambda: sum(range(1000))}, runs=3, warmup=0)
    assert 0 < stats["a"].median_ms <= stats["a"].p90_ms


@pytest.mark.parametrize(("runs", "warmup", "count"), [(0, 0, 1), (1, -1, 1), (1, 0, 0)])
def test_nothing_to_measure(runs: int, warmup: int, count: int) -> None:
    with pytest.raises(ValueError, match="nothing to measure"):
        measure({str(i): (lambda: None) for i in range(count)}, runs=runs, warmup=warmup)


def test_drift_of_the_machine_cancels_out() -> None:
    clock = Clock()
    runners = {
        "fp32": clock.runner("fp32", lambda n: 8.0 * (1 + n)),
        "int8": clock.runner("int8", lambda n: 4.0 * (1 + n)),
    }
    stats = measure(runners, runs=20, warmup=0, clock=clock)
    speedup = paired_speedup(stats["fp32"], stats["int8"])
    assert (speedup.median, speedup.low, speedup.high) == pytest.approx((2.0, 2.0, 2.0))


def _noisy(spread: float) -> tuple[LatencyStats, LatencyStats]:
    generator = random.Random(3)
    float_ms = [8 * (1 + generator.uniform(-spread, spread)) for _ in range(40)]
    int8_ms = [5 * (1 + generator.uniform(-spread, spread)) for _ in range(40)]
    return LatencyStats.of(float_ms), LatencyStats.of(int8_ms)


def test_the_interval_is_repeatable_and_grows_with_the_noise() -> None:
    calm, wild = paired_speedup(*_noisy(0.01)), paired_speedup(*_noisy(0.4))
    assert paired_speedup(*_noisy(0.4)) == wild
    assert calm.low < calm.median < calm.high
    assert wild.high - wild.low > 5 * (calm.high - calm.low)
    assert calm.low < 1.6 < calm.high
    fp32, int8 = _noisy(0.4)
    ratios = sorted(a / b for a, b in zip(fp32.samples, int8.samples, strict=True))
    assert wild.high - wild.low < (ratios[-2] - ratios[1]) / 2, "the interval is that of the median, not of one round"


def test_samples_must_be_from_the_same_rounds() -> None:
    with pytest.raises(ValueError, match="same rounds"):
        paired_speedup(LatencyStats.of([1.0, 2.0]), LatencyStats.of([1.0]))
    with pytest.raises(ValueError, match="no time"):
        paired_speedup(LatencyStats.of([1.0]), LatencyStats.of([0.0]))
