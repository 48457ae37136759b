"""Regressions: a report against the report of an earlier release, with stated tolerances."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from levit_edge.errors import InputError
from levit_edge.gates.gate import at_least, at_most, skipped
from levit_edge.metrics.accuracy import Accuracy
from levit_edge.metrics.instructions import Instructions
from levit_edge.record import Record
from levit_edge.report.schema import Delegation, GateResult, Latency, Report, TargetReport


class Tolerances(Record):
    """How much worse than the baseline a figure may be before it counts as a regression.

    Accuracy and agreement may always differ by two images. The two speedups may come from different machines or days,
    so their tolerance is wide; a kernel that falls back to float costs more than that. Instruction counts depend on no
    clock, so theirs is narrow.
    """

    top1_drop_pp: float = Field(default=0.3, ge=0)
    agreement_pct: float = Field(default=0.5, ge=0)
    sqnr_db: float = Field(default=1.0, ge=0)
    size_pct: float = Field(default=2.0, ge=0)
    speedup_pct: float = Field(default=30.0, ge=0, lt=100)
    instructions_pct: float = Field(default=2.0, ge=0)


def compare_to_baseline(
    report: Report, baseline: Report, tolerances: Tolerances | None = None
) -> dict[str, tuple[GateResult, ...]]:
    """Results per target of the baseline; figures that one side lacks, or another runtime produced, are skipped.

    A target that the baseline has and the report lacks fails. Raises InputError when a target was built with different
    recipes.
    """
    return {
        name: tuple(_compare(name, report.targets.get(name), before, tolerances or Tolerances()))
        for name, before in baseline.targets.items()
    }


def _compare(name: str, now: TargetReport | None, before: TargetReport, slack: Tolerances) -> Iterator[GateResult]:
    if now is None:
        yield at_least("baseline_target_present", 0, 1, f"the baseline has {name}, this report does not")
        return
    if now.recipe != before.recipe:
        raise InputError(
            f"{name}: recipe {now.recipe!r} cannot be compared with a baseline of recipe {before.recipe!r}"
        )
    yield at_most("baseline_size_bytes", now.size_bytes, before.size_bytes * (1 + slack.size_pct / 100))
    if before.accuracy is not None:
        yield from _compare_accuracy(now.accuracy, before.accuracy, slack)
    if before.latency is not None:
        yield _compare_speedup(now.latency, before.latency, slack)
    yield from _compare_instructions(now, before, slack)
    if before.delegation is not None:
        yield from _compare_delegation(now.delegation, before.delegation)


def _compare_accuracy(now: Accuracy | None, before: Accuracy, slack: Tolerances) -> Iterator[GateResult]:
    if now is None or (now.runtime, now.executed) != (before.runtime, before.executed):
        yield skipped(
            "baseline_agreement_pct", before.agreement_pct, f"this report has no accuracy from {before.source}"
        )
        return
    two_images = 200 / now.n
    agreement = before.agreement_pct - max(slack.agreement_pct, two_images)
    yield at_least("baseline_agreement_pct", now.agreement_pct, agreement, before.source)
    if before.top1_drop_pp is not None and now.top1_drop_pp is not None:
        drop = before.top1_drop_pp + max(slack.top1_drop_pp, 200 / now.n_labelled)
        yield at_most("baseline_top1_drop_pp", now.top1_drop_pp, drop, before.source)
    if before.sqnr_db is not None and now.sqnr_db is not None:
        yield at_least("baseline_sqnr_db", now.sqnr_db, before.sqnr_db - slack.sqnr_db, before.source)


def _compare_speedup(now: Latency | None, before: Latency, slack: Tolerances) -> GateResult:
    name, limit = "baseline_speedup", before.speedup * (1 - slack.speedup_pct / 100)
    if now is None or (now.runtime, now.threads) != (before.runtime, before.threads):
        return skipped(name, limit, f"this report has no latency from {before.source}")
    return at_least(name, now.speedup, limit, before.source)


def _compare_instructions(now: TargetReport, before: TargetReport, slack: Tolerances) -> Iterator[GateResult]:
    name, counted, counted_before = "baseline_arm64_instructions", _instructions(now), _instructions(before)
    if counted and not counted_before:
        yield skipped(name, 0, "the baseline has no instructions to compare with")
    for device, earlier in counted_before.items():
        limit, found = earlier.instructions * (1 + slack.instructions_pct / 100), counted.get(device)
        if found is None:
            yield skipped(name, limit, f"this report has no instructions from {device}")
        else:
            same = found.runtime == earlier.runtime
            source = found.runtime if same else f"{found.runtime}, the baseline {earlier.runtime}"
            yield at_most(name, found.instructions, limit, source)


def _instructions(target: TargetReport) -> dict[str, Instructions]:
    return {name: found.instructions for name, found in target.devices.items() if found.instructions is not None}


def _compare_delegation(now: Delegation | None, before: Delegation) -> Iterator[GateResult]:
    for figure in ("delegates", "float_ops", "fallback_ops"):
        limit, value = getattr(before, figure), None if now is None else getattr(now, figure)
        if limit is None:
            continue
        if value is not None:
            yield at_most(f"baseline_{figure}", value, limit)
        else:
            why = "this report does not say what runs where" if now is None else "the runtime has no delegates"
            yield skipped(f"baseline_{figure}", limit, why)
