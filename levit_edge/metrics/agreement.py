"""Whether everything that computes one model gives the same answers: every pair compared on the same images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from levit_edge.metrics.closeness import Percentage, best_class, finite_logits, margins
from levit_edge.metrics.sqnr import decibels, finite_or_none
from levit_edge.record import Record


class Participant(Record):
    """Something that computes the model: ``executed`` is False for all but a target's own runtime.

    ``program`` names the participant that this one was lowered from, the quantized program in torch; None for the
    programs themselves.
    """

    name: str
    target: str | None
    runtime: str
    executed: bool
    program: str | None = None


class Agreement(Record):
    """Every participant against every other, on the same ``n`` images of ``images``.

    Row ``i`` is the reference of column ``j``: ``agreement_pct[i][j]`` of the images have the same best class, and
    ``sqnr_db[i][j]`` is ``10 log10(sum ref_i^2 / sum (ref_i - x_j)^2)`` over all logits; None on the diagonal and where
    the logits are identical. ``float_margin`` is the distance from the float model's second-best logit to its best, in
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


class AgreementMeter:
    """Compares ``participants`` batch by batch; memory does not grow with the number of images.

    The first participant is the float model.

    >>> people = [Participant(name=name, target=None, runtime="torch", executed=False) for name in "ab"]
    >>> meter = AgreementMeter(people)
    >>> meter.update([np.array([[1.0, 3.0]]), np.array([[1.0, 2.0]])])
    >>> meter.result("pets").agreement_pct
    ((100.0, 100.0), (100.0, 100.0))
    """

    def __init__(self, participants: Sequence[Participant]) -> None:
        self._participants = tuple(participants)
        size = len(self._participants)
        self._n = 0
        self._margin = 0.0
        self._signal = np.zeros(size)  # [P]: sum of squares of each participant's logits
        self._noise = np.zeros((size, size))  # [P, P]: sum of squared differences; symmetric
        self._agreed = np.zeros((size, size), dtype=np.int64)  # [P, P]: images with the same best class; symmetric

    def update(self, logits: Sequence[NDArray[Any]]) -> None:
        """Add a batch: the logits [B, K] of every participant, in their order.

        Raises ValueError when a participant or an image is missing, and LevitEdgeError, with the name of the
        participant, when a logit is NaN or infinite.
        """
        answers = [finite_logits(one, who.name) for who, one in zip(self._participants, logits, strict=True)]
        if len({one.shape for one in answers}) != 1:
            raise ValueError(f"shapes {', '.join(str(one.shape) for one in answers)} do not match")
        best = [best_class(one) for one in answers]
        self._n += len(best[0])
        self._margin += float(margins(answers[0]).sum())
        for row, reference in enumerate(answers):
            self._signal[row] += np.square(reference).sum()
            for column in range(row, len(answers)):
                self._noise[row, column] += np.square(reference - answers[column]).sum()
                self._agreed[row, column] += (best[row] == best[column]).sum()

    def result(self, images: str) -> Agreement:
        """The table so far; ``images`` says where they come from. ValueError when no image was added."""
        if not self._n:
            raise ValueError("no image was compared")
        size, pairs = range(len(self._participants)), {}
        for row in size:
            for column in size:
                upper = min(row, column), max(row, column)
                ratio_db = decibels(float(self._signal[row]), float(self._noise[upper]))
                pairs[row, column] = 100 * int(self._agreed[upper]) / self._n, finite_or_none(ratio_db)
        return Agreement(
            images=images,
            n=self._n,
            float_margin=self._margin / self._n,
            participants=self._participants,
            agreement_pct=tuple(tuple(pairs[row, column][0] for column in size) for row in size),
            sqnr_db=tuple(tuple(pairs[row, column][1] for column in size) for row in size),
        )
