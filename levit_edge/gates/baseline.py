"""Regressions: a report against the report of an earlier release, with stated tolerances."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from levit_edge.gates.gate import at_least, at_most, not_applicable, undecided
from levit_edge.gates.gates_file import GatesFile, Regression
from levit_edge.gates.identity import compare_identities
from levit_edge.gates.sampled import judge_drop, judge_speedup
from levit_edge.metrics.accuracy import Accuracy
from levit_edge.report.gate_result import GateResult
from levit_edge.report.policy import IdentityName
from levit_edge.report.schema import Delegation, Report, TargetReport

NAMED_RANGES = 3  # of those that moved too far, the ones that moved furthest
RANGES_NEED: tuple[IdentityName, ...] = ("model", "calibration", "recipe")
FIGURES_NEED: tuple[IdentityName, ...] = ("model", "recipe")
"""Identities without which no figure is compared at all; the images and the host matter to some figures only."""


def compare_to_baseline(report: Report, baseline: Report, file: GatesFile) -> dict[str, tuple[GateResult, ...]]:
    """Results per target of the baseline, and of the report: first the identities, then the figures.

    A target that the baseline has and the report lacks fails, and one that only the report has is undecided. What the
    baseline measured and the report did not is undecided. The answers are compared image by image.
    """
    names = dict.fromkeys((*baseline.targets, *report.targets))
    return {name: tuple(_compare(name, report, baseline, file.regression_of(name))) for name in names}


def _compare(name: str, report: Report, baseline: Report, slack: Regression) -> Iterator[GateResult]:
    now, before = report.targets.get(name), baseline.targets.get(name)
    if now is None:
        yield at_least("baseline_target_present", 0, 1, f"the baseline has {name}, this report does not")
        return
    if before is None:
        yield undecided("baseline_target_present", 1, f"the baseline has no {name} to compare with")
        return
    identities = list(compare_identities((report, now), (baseline, before), slack.accept_difference))
    yield from identities
    same = {result.name.removeprefix("baseline_"): result.outcome for result in identities}
    if any(same[name] == "failed" for name in FIGURES_NEED):
        return
    if before.ranges:
        other = [name for name in RANGES_NEED if same[name] != "passed"]
        yield _compare_ranges(now, before, slack, other)
    yield at_most("baseline_size_bytes", now.size_bytes, before.size_bytes * (1 + slack.size_pct / 100))
    if before.accuracy is not None:
        yield from _compare_accuracy(now.accuracy, before.accuracy, slack, same["evaluation"] == "passed")
    if before.latency is not None:
        yield _compare_speedup(now, before, slack, same["host"] == "passed")
    yield from _compare_instructions(now, before, slack, "devices" in slack.accept_difference)
    if before.delegation is not None:
        yield from _compare_delegation(now.delegation, before.delegation)


def _compare_accuracy(
    now: Accuracy | None, before: Accuracy, slack: Regression, same_images: bool
) -> Iterator[GateResult]:
    """The answers that became wrong since the baseline against those that became right; the same for agreement."""
    drop, agreement = "baseline_top1_drop_pp", "baseline_agreement_drop_pp"
    why = _incomparable(now, before, same_images)
    if now is None or now.outcomes is None or before.outcomes is None or why:
        judged = not_applicable if now is not None and not same_images else undecided
        yield judged(drop, slack.top1_drop_pp, why)
        yield judged(agreement, slack.agreement_pp, why)
        return
    if before.n_labelled:
        right, was_right = now.outcomes.flags().right, before.outcomes.flags().right
        lost, gained = int(np.sum(was_right & ~right)), int(np.sum(right & ~was_right))
        yield judge_drop(drop, lost, gained, now.n_labelled, slack.top1_drop_pp, before.source)
    agrees, agreed = now.outcomes.flags().agrees, before.outcomes.flags().agrees
    lost, gained = int(np.sum(agreed & ~agrees)), int(np.sum(agrees & ~agreed))
    yield judge_drop(agreement, lost, gained, now.n, slack.agreement_pp, before.source)
    if before.sqnr_db is not None and now.sqnr_db is None:
        yield undecided("baseline_sqnr_db", before.sqnr_db - slack.sqnr_db, "this report has no finite SQNR")
    elif before.sqnr_db is not None and now.sqnr_db is not None:
        yield at_least("baseline_sqnr_db", now.sqnr_db, before.sqnr_db - slack.sqnr_db, before.source)


def _incomparable(now: Accuracy | None, before: Accuracy, same_images: bool) -> str:
    """Why the answers of two reports cannot be compared one by one; empty where they can."""
    if now is None or (now.runtime, now.executed) != (before.runtime, before.executed):
        return f"this report has no accuracy from {before.source}"
    if not same_images:
        return "the images are not those of the baseline"
    if now.outcomes is None or before.outcomes is None:
        return "one of the reports does not keep its answers; make it again"
    if now.n_labelled != before.n_labelled:
        return f"{now.n_labelled} images have a known class, in the baseline {before.n_labelled}"
    return ""


def _compare_ranges(
    now: TargetReport, before: TargetReport, slack: Regression, other: Sequence[IdentityName]
) -> GateResult:
    """How far the ends of the stored tensors' ranges moved, as a share of the width that each had in the baseline."""
    name, limit = "baseline_ranges", slack.ranges_pct
    if other:
        return not_applicable(name, limit, f"another {' and '.join(other)} than that of the baseline")
    if not now.ranges:
        return undecided(name, limit, "this report has no ranges")
    tensors = sorted(now.ranges.keys() | before.ranges.keys())
    moved = {tensor: _moved_pct(now.ranges.get(tensor), before.ranges.get(tensor)) for tensor in tensors}
    worst = sorted(tensors, key=lambda tensor: -moved[tensor])[:NAMED_RANGES]
    words = [
        f"{tensor} {_interval(before.ranges.get(tensor))} -> {_interval(now.ranges.get(tensor))}"
        for tensor in worst
        if moved[tensor] > limit
    ]
    return at_most(name, max(moved.values()), limit, "; ".join(words))


def _moved_pct(now: tuple[float, float] | None, before: tuple[float, float] | None) -> float:
    """100 where only one side stores the tensor as an integer."""
    if now is None or before is None:
        return 100.0
    width = before[1] - before[0]
    return 100 * max(abs(now[0] - before[0]), abs(now[1] - before[1])) / width if width > 0 else 100.0


def _interval(ends: tuple[float, float] | None) -> str:
    return "float" if ends is None else f"[{ends[0]:.4g}, {ends[1]:.4g}]"


def _compare_speedup(now: TargetReport, before: TargetReport, slack: Regression, same_host: bool) -> GateResult:
    earlier, found = before.latency, now.latency
    if earlier is None:
        raise ValueError("the baseline has no latency")
    name, limit = "baseline_speedup", earlier.speedup * (1 - slack.speedup_pct / 100)
    if not same_host:
        return not_applicable(name, limit, "the host is not that of the baseline")
    if found is None or (found.runtime, found.threads) != (earlier.runtime, earlier.threads):
        return undecided(name, limit, f"this report has no latency from {earlier.source}")
    return judge_speedup(name, found, limit)


def _compare_instructions(
    now: TargetReport, before: TargetReport, slack: Regression, other_devices: bool
) -> Iterator[GateResult]:
    """One result for each device that counted for the baseline; ``other_devices``: some may be missing."""
    name = "baseline_device_instructions"
    for device, earlier in before.devices.items():
        if earlier.instructions is None:
            continue
        limit = earlier.instructions.instructions * (1 + slack.instructions_pct / 100)
        found = now.devices[device].instructions if device in now.devices else None
        if found is None:
            missing = not_applicable if other_devices and device not in now.devices else undecided
            result = missing(name, limit, f"this report has no instructions from {device}")
        else:
            same = found.runtime == earlier.instructions.runtime
            source = found.runtime if same else f"{found.runtime}, the baseline {earlier.instructions.runtime}"
            result = at_most(name, found.instructions, limit, source)
        yield result.model_copy(update={"device": device})


def _compare_delegation(now: Delegation | None, before: Delegation) -> Iterator[GateResult]:
    for figure in ("delegates", "float_ops", "fallback_ops"):
        limit, value = getattr(before, figure), None if now is None else getattr(now, figure)
        name = f"baseline_{figure}"
        if limit is None:
            continue
        if value is None:
            yield undecided(name, limit, "this report does not say what runs where")
        else:
            yield at_most(name, value, limit)
    if before.operators and now is not None:
        yield _compare_operators(now.operators, before.operators)


def _compare_operators(now: dict[str, int], before: dict[str, int]) -> GateResult:
    names = sorted(now.keys() | before.keys())
    changed = [
        f"{name} {before.get(name, 0)} -> {now.get(name, 0)}" for name in names if now.get(name) != before.get(name)
    ]
    return at_most("baseline_operator_changes", len(changed), 0, "; ".join(changed))
