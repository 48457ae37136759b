"""Do all that compute one model give the same answers: every pair of them compared on the same images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from levit_edge.metrics.accuracy import UNKNOWN_CLASS, AccuracyMeter

Percentage = Annotated[float, Field(ge=0, le=100)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Closeness(_Entry):
    """How close two runs of one model file are on ``n`` images; ``runtime`` is the one that was taken as reference.

    ``agreement_pct`` of the images have the same best class. ``sqnr_db`` is None where the logits are identical.
    """

    runtime: str
    n: int = Field(ge=1)
    agreement_pct: Percentage
    sqnr_db: float | None


class Participant(_Entry):
    """Something that computes the model: ``executed`` is False for all but a target's own runtime.

    ``program`` names the participant that it was lowered from: the quantized program in torch. None for programs.
    """

    name: str
    target: str | None
    runtime: str
    executed: bool
    program: str | None = None


class Agreement(_Entry):
    """Every participant against every other, on the same ``n`` images of ``images``.

    Row ``i`` is the reference of column ``j``: ``agreement_pct[i][j]`` of the images have the same best class, and
    ``sqnr_db[i][j]`` is ``10 log10(sum ref_i^2 / sum (ref_i - x_j)^2)`` over all logits; None on the diagonal and where
    the logits are identical. ``float_margin`` is how far the float model's best logit lies above its second, in
    standard deviations of the image's logits, on average.
    """

    images: str
    n: int = Field(ge=1)
    float_margin: float = Field(ge=0)
    participants: tuple[Participant, ...]
    agreement_pct: tuple[tuple[Percentage, ...], ...]
    sqnr_db: tuple[tuple[float | None, ...], ...]

    @model_validator(mode="after")
    def _check_square(self) -> Agreement:
        size = len(self.participants)
        for name in ("agreement_pct", "sqnr_db"):
            rows = getattr(self, name)
            if [len(row) for row in rows] != [size] * size:
                raise ValueError(f"{name} needs {size} rows of {size} figures, one for each participant")
        return self

    def against_program(self) -> Iterator[tuple[Participant, float, float | None]]:
        """(participant, agreement in percent, SQNR in dB) against its own program, of all that have one."""
        index = {participant.name: number for number, participant in enumerate(self.participants)}
        for number, participant in enumerate(self.participants):
            if participant.program is not None:
                row = index[participant.program]
                yield participant, self.agreement_pct[row][number], self.sqnr_db[row][number]


def closeness(reference: NDArray[Any], logits: NDArray[Any], runtime: str) -> Closeness:
    """Two answers to the same images, both [B, K]; ``runtime`` gave the reference."""
    pair = _pair(reference, logits)
    found = pair.result(runtime=runtime, executed=True)
    return Closeness(runtime=runtime, n=found.n, agreement_pct=found.agreement_pct, sqnr_db=found.sqnr_db)


def agreement(participants: Sequence[tuple[Participant, NDArray[Any]]], images: str) -> Agreement:
    """The whole table from everybody's logits [B, K], of which the first are the float model's.

    Raises LevitEdgeError when somebody's logits are not finite.
    """
    answers = [logits for _, logits in participants]
    pairs = [[closeness(reference, logits, "") for logits in answers] for reference in answers]
    margin = _pair(answers[0], answers[0]).result(runtime="", executed=True).float_margin
    return Agreement(
        images=images,
        n=len(answers[0]),
        float_margin=margin or 0.0,
        participants=tuple(participant for participant, _ in participants),
        agreement_pct=tuple(tuple(pair.agreement_pct for pair in row) for row in pairs),
        sqnr_db=tuple(tuple(pair.sqnr_db for pair in row) for row in pairs),
    )


def _pair(reference: NDArray[Any], logits: NDArray[Any]) -> AccuracyMeter:
    meter = AccuracyMeter()
    meter.update(reference, logits, np.full(len(reference), UNKNOWN_CLASS))
    return meter
