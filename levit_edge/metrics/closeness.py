"""How close the logits of one model come to those of a reference: agreement and SQNR, summed batch by batch."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from levit_edge.errors import LevitEdgeError
from levit_edge.metrics.sqnr import decibels, finite_or_none
from levit_edge.record import Record

Percentage = Annotated[float, Field(ge=0, le=100)]


class Closeness(Record):
    """How close two runs of one model file are on ``n`` images; ``runtime`` computed the reference.

    ``agreement_pct`` of the images have the same best class. ``sqnr_db`` covers all logits and is None when there is no
    finite value: the logits are identical, or the reference is all zeros.
    """

    runtime: str
    n: int = Field(ge=1)
    agreement_pct: Percentage
    sqnr_db: float | None


class ClosenessMeter:
    """Sums over batches; memory does not grow with the number of images.

    ``reference`` and ``other`` say whose logits are compared, for the messages.

    >>> meter = ClosenessMeter()
    >>> meter.update(np.array([[1.0, 3.0]]), np.array([[1.0, 2.0]]))
    >>> meter.result("onnxruntime-cpu").agreement_pct
    100.0
    """

    def __init__(self, reference: str = "the reference", other: str = "the built model") -> None:
        self._names = reference, other
        self._n = self._agreed = 0
        self._signal = self._noise = 0.0

    def update(self, reference: NDArray[Any], logits: NDArray[Any]) -> None:
        """Add a batch: ``reference`` and ``logits`` are [B, K].

        Raises ValueError when the shapes do not fit, and LevitEdgeError when a logit is NaN or infinite.
        """
        reference, logits = finite_logits(reference, self._names[0]), finite_logits(logits, self._names[1])
        if reference.shape != logits.shape:
            raise ValueError(f"shapes {reference.shape} and {logits.shape} do not match")
        self._n += len(logits)
        self._signal += float(np.square(reference).sum())
        self._noise += float(np.square(reference - logits).sum())
        self._agreed += int((best_class(reference) == best_class(logits)).sum())

    def result(self, runtime: str) -> Closeness:
        """The figures so far, with ``runtime`` as the name of the reference; ValueError when no image was added."""
        if not self._n:
            raise ValueError("no image was compared")
        return Closeness(
            runtime=runtime,
            n=self._n,
            agreement_pct=100 * self._agreed / self._n,
            sqnr_db=finite_or_none(decibels(self._signal, self._noise)),
        )


def finite_logits(logits: NDArray[Any], whose: str) -> NDArray[np.float64]:
    """``logits`` [B, K] in float64.

    Raises ValueError for another shape, and LevitEdgeError that names ``whose`` logits are NaN or infinite.
    """
    logits = np.asarray(logits, dtype=np.float64)
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(f"logits of {whose} have shape {logits.shape}; expected [batch, classes]")
    if not np.isfinite(logits).all():
        raise LevitEdgeError(f"{whose} gave NaN or infinite logits; its accuracy cannot be measured")
    return logits


def best_class(logits: NDArray[np.float64]) -> NDArray[np.intp]:
    """Index of the largest logit in each row: [B, K] -> [B]. The lowest index wins a tie."""
    best: NDArray[np.intp] = np.argmax(logits, axis=1)
    return best


def margins(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """(best - second best) / standard deviation of each row: [B, K] -> [B]; 0 for one class or equal logits."""
    if logits.shape[1] < 2:
        return np.zeros(len(logits))
    second, best = np.sort(logits, axis=1)[:, -2:].T
    spread = logits.std(axis=1)
    found: NDArray[np.float64] = np.divide(best - second, spread, out=np.zeros(len(logits)), where=spread > 0)
    return found
