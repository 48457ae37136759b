"""What a report shows of the tensors that are float: why they are, and the way to those that a goal asked for."""

from __future__ import annotations

from levit_edge.report.figures import ABSENT, LONGEST_LIST, decibels_text
from levit_edge.report.mixed_precision import MixedPrecision
from levit_edge.report.schema import TargetReport
from levit_edge.wording import listed

FLOAT_COLUMNS = ("stays float", "because")


def float_rows(target: TargetReport) -> list[tuple[str, str]]:
    """Each reason for which tensors of an int8 model are float, below :data:`FLOAT_COLUMNS`."""
    reasons = dict.fromkeys(target.float_tensors.values())
    named = {reason: [name for name, why in target.float_tensors.items() if why == reason] for reason in reasons}
    return [(listed(names, LONGEST_LIST), reason) for reason, names in named.items()]


STEP_COLUMNS = ("kept float as well", "SQNR", "SQNR, confirmed", "top-1 drop, confirmed", "float MACs")


def step_rows(found: MixedPrecision) -> list[tuple[str, ...]]:
    """The recipe by itself, and each thing that was kept float besides with all before it, below :data:`STEP_COLUMNS`.

    The MACs are those that became float up to there.
    """
    steps = [("nothing", found.before_db, found.before_confirmed, 0)]
    steps += [(kept.tensor, kept.sqnr_db, kept.confirmed, kept.float_macs) for kept in found.kept]
    rows, macs = list[tuple[str, ...]](), 0
    for name, sqnr_db, confirmed, more in steps:
        macs += more
        drop = None if confirmed is None else confirmed.top1_drop_pp
        rows.append(
            (
                name,
                decibels_text(sqnr_db),
                ABSENT if confirmed is None else decibels_text(confirmed.sqnr_db),
                ABSENT if drop is None else f"{drop:.2f} pp",
                f"{macs / 1e6:.2f} M",
            )
        )
    return rows


def step_title(found: MixedPrecision) -> str:
    """What was asked for, and how it was decided."""
    goals = [] if found.goal_db is None else [f"at least {found.goal_db:g} dB"]
    goals += [] if found.goal_drop_pp is None else [f"a top-1 drop of at most {found.goal_drop_pp:g} pp"]
    met = "met" if found.reached else "not met"
    return (
        f"Asked for {' and '.join(goals)}: {met}, simulated on {found.confirmed_images} images "
        f"(searched on {found.images})"
    )
