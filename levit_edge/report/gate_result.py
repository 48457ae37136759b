"""What a gate says, and what many of them say together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pydantic import Field, computed_field, model_validator

from levit_edge.record import Record
from levit_edge.report.policy import UndecidedPolicy

Outcome = Literal["passed", "failed", "undecided", "not applicable"]
Verdict = Literal["passed", "failed", "undecided", "not measured"]


class GateResult(Record):
    """One check of one figure.

    ``outcome`` is ``passed`` where the evidence shows that the limit is kept, ``failed`` where it shows that it is not,
    ``undecided`` where it shows neither or was not measured, and ``not applicable`` where the figure cannot exist here.
    ``limit`` is the one that was asked for, whatever the evidence. ``low`` and ``high`` bound the true value, each with
    at least 95 % confidence; None for what is counted and not sampled. ``images`` is how many would decide, at the
    rates seen. ``device`` names the device that the figure is from, None for this host.
    ``note`` says in words what the outcome rests on.
    """

    name: str
    outcome: Outcome
    value: float | str | None
    limit: float | str | None
    low: float | None = None
    high: float | None = None
    images: int | None = Field(default=None, ge=1)
    device: str | None = None
    note: str = ""

    @model_validator(mode="before")
    @classmethod
    def _earlier_versions(cls, values: Any) -> Any:
        """Reports of earlier versions have ``passed`` (true, false, or null where nothing was measured) instead."""
        if isinstance(values, dict) and "outcome" not in values and "passed" in values:
            outcomes = {True: "passed", False: "failed", None: "undecided"}
            return {**values, "outcome": outcomes.get(values["passed"], values["passed"])}
        return values

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool | None:
        """True and False for a decided gate, None for one that is not, or that does not apply."""
        return {"passed": True, "failed": False}.get(self.outcome)


def verdict(gates: Iterable[GateResult]) -> Verdict:
    """The worst outcome: ``failed``, else ``undecided``, else ``passed``; ``not measured`` where no gate applies."""
    outcomes = {gate.outcome for gate in gates}
    worst: tuple[Verdict, ...] = ("failed", "undecided", "passed")
    return next((outcome for outcome in worst if outcome in outcomes), "not measured")


def overall(targets: Iterable[Iterable[GateResult]]) -> Verdict:
    """The worst verdict of several targets, in the order failed, undecided, not measured, passed."""
    verdicts = {verdict(gates) for gates in targets}
    worst: tuple[Verdict, ...] = ("failed", "undecided", "not measured", "passed")
    return next((outcome for outcome in worst if outcome in verdicts), "not measured")


def shows(gates: Iterable[GateResult]) -> bool:
    """True where a gate on a figure of the report itself passed; being like a baseline shows nothing alone."""
    return any(gate.outcome == "passed" and not gate.name.startswith("baseline_") for gate in gates)


def acceptable(targets: Iterable[Sequence[GateResult]], undecided: UndecidedPolicy) -> bool:
    """Whether a release may go on: there is a target, and each of them shows something and has no gate that stops it.

    A failed gate stops it, and an undecided one unless ``undecided`` is ``warn``.
    """
    stopping = {"failed"} if undecided == "warn" else {"failed", "undecided"}
    found = [shows(gates) and all(gate.outcome not in stopping for gate in gates) for gates in targets]
    return bool(found) and all(found)
