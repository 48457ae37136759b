"""The exact tests behind the verdicts."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from levit_edge.gates.chance import tolerated_events, tolerated_net_loss


@given(n=st.integers(1, 60), rate=st.sampled_from([0.02, 0.5, 0.9]))
def test_tolerated_events_are_the_exact_binomial_tail(n: int, rate: float) -> None:
    def reach(count: int) -> float:
        return sum(math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(count, n + 1))

    tolerated = tolerated_events(n, rate)
    assert reach(tolerated) >= 0.05 - 1e-12
    assert tolerated == n or reach(tolerated + 1) < 0.05 + 1e-12


def test_no_flips_tolerate_nothing() -> None:
    assert [tolerated_net_loss(flips) for flips in (0, 1, 4, 5, 12)] == [0, 1, 4, 3, 6]
