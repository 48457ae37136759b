"""How often a gate passes, fails and stays undecided: simulated, against the true drop and the number of images.

    python -m benchmarks.gate_power

prints the tables of ``docs/gates.md``. Each cell draws ``DRAWS`` samples of images whose answers are lost and gained at
the true rates, and asks the gate itself. Beside it stands the simple rule that compares the measured drop with the
limit. The draws have a fixed seed, so the tables are always the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from levit_edge.gates.sampled import judge_drop, judge_share

DRAWS = 2000
SEED = 0
IMAGES = (200, 500, 1000, 2500, 5000, 10_000, 50_000)
LIMITS_PP = (0.5, 1.0, 1.5)
CHANGED = 0.012  # share of answers that int8 changes where nothing is lost on balance; the demo's is 0.012 to 0.015


@cache
def _drop_outcome(lost: int, gained: int, n: int, limit_pp: float) -> str:
    return judge_drop("", lost, gained, n, limit_pp, "").outcome


@cache
def _share_outcome(agreed: int, n: int, least_pct: float) -> str:
    return judge_share("", 100 * agreed / n, n, least_pct, "").outcome


def drop_cell(n: int, drop_pp: float, limit_pp: float) -> tuple[float, float, float, float]:
    """(passed, undecided, failed) of the gate and passed of the simple rule, in percent of DRAWS samples."""
    drop = drop_pp / 100
    changed = CHANGED + drop
    rates = [(changed + drop) / 2, (changed - drop) / 2, 1 - changed]
    lost, gained, _ = np.random.default_rng(SEED).multinomial(n, rates, DRAWS).T
    outcomes = [_drop_outcome(int(b), int(c), n, limit_pp) for b, c in zip(lost, gained, strict=True)]
    simple = 100 * float(np.mean(100 * (lost - gained) / n <= limit_pp))
    passed, undecided, failed = (100 * outcomes.count(name) / DRAWS for name in ("passed", "undecided", "failed"))
    return passed, undecided, failed, simple


def share_cell(n: int, agreement_pct: float, least_pct: float) -> tuple[float, float, float]:
    """(passed, undecided, failed) of the agreement gate, in percent of DRAWS samples."""
    agreed = np.random.default_rng(SEED).binomial(n, agreement_pct / 100, DRAWS)
    outcomes = [_share_outcome(int(events), n, least_pct) for events in agreed]
    passed, undecided, failed = (100 * outcomes.count(name) / DRAWS for name in ("passed", "undecided", "failed"))
    return passed, undecided, failed


def drop_table(limit_pp: float) -> Iterator[str]:
    """One row for each number of images, one column for each true drop: "passed / undecided / failed (simple rule)"."""
    drops = (0.0, limit_pp / 2, limit_pp, 2 * limit_pp)
    yield f"Limit {limit_pp:g} pp: passed / undecided / failed, in brackets passed by the simple rule, in percent.\n"
    yield "| images | " + " | ".join(f"true drop {drop:g} pp" for drop in drops) + " |"
    yield "|---|" + "---|" * len(drops)
    for n in IMAGES:
        cells = [drop_cell(n, drop, limit_pp) for drop in drops]
        yield f"| {n} | " + " | ".join(f"{p:.0f} / {u:.0f} / {f:.0f} ({s:.0f})" for p, u, f, s in cells) + " |"


def share_table() -> Iterator[str]:
    """The agreement gate of int8: limit 97 %."""
    rates = (99.0, 98.5, 98.0, 97.0, 95.0)
    yield "Agreement of at least 97 %: passed / undecided / failed, in percent.\n"
    yield "| images | " + " | ".join(f"true agreement {rate:g} %" for rate in rates) + " |"
    yield "|---|" + "---|" * len(rates)
    for n in IMAGES:
        cells = [share_cell(n, rate, 97.0) for rate in rates]
        yield f"| {n} | " + " | ".join(f"{p:.0f} / {u:.0f} / {f:.0f}" for p, u, f in cells) + " |"


def main() -> None:
    """Print every table as Markdown."""
    for limit_pp in LIMITS_PP:
        print("\n".join(drop_table(limit_pp)), end="\n\n")
    print("\n".join(share_table()))


if __name__ == "__main__":
    main()
