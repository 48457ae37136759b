"""Accuracy of a built model against its float reference: top-1, top-5, agreement and SQNR, gathered batch by batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from levit_edge.metrics.closeness import ClosenessMeter, best_class, finite_logits, margins
from levit_edge.metrics.outcomes import MAX_IMAGES, Flags, Outcomes
from levit_edge.record import Record

UNKNOWN_CLASS = -1
TOP_K = 5
_ROUNDING = 1e-9  # percentage points; one image of a hundred million is more

Percent = Field(default=None, ge=0, le=100)


class Accuracy(Record):
    """The ``accuracy`` entry of a report.

    ``runtime`` names what produced the numbers; ``executed`` is false when that was a simulation and not the runtime
    that the device uses. ``n`` images were compared and ``n_labelled`` of them have a known class; the top-k figures
    cover the latter and are None without any. ``top1_lost`` images are right in float and wrong here, ``top1_gained``
    the other way round. ``sqnr_db`` is ``10 log10(sum ref^2 / sum (ref - x)^2)`` over all logits; None when there is
    no finite value (logits identical to the reference, or an all-zero reference). ``float_margin`` is the distance from
    the float model's second-best logit to its best, in standard deviations of the image's logits, on average.
    ``outcomes`` has the answers image by image, None in reports of earlier versions. The figures that follow from them
    must be those that are stated; a ValidationError names the first that is not.
    """

    runtime: str
    executed: bool
    n: int = Field(ge=1, le=MAX_IMAGES)
    n_labelled: int = Field(default=0, ge=0)
    top1_fp32_pct: float | None = Percent
    top1_pct: float | None = Percent
    top1_drop_pp: float | None = Field(default=None, ge=-100, le=100)
    top1_lost: int | None = Field(default=None, ge=0)
    top1_gained: int | None = Field(default=None, ge=0)
    top5_pct: float | None = Percent
    agreement_pct: float = Field(ge=0, le=100)
    sqnr_db: float | None
    float_margin: float | None = Field(default=None, ge=0)
    outcomes: Outcomes | None = None

    @model_validator(mode="after")
    def _check_labels(self) -> Accuracy:
        figures = (self.top1_fp32_pct, self.top1_pct, self.top1_drop_pp, self.top5_pct)
        if self.n_labelled > self.n or {figure is None for figure in figures} != {self.n_labelled == 0}:
            raise ValueError(f"top-1 and top-5 belong to n_labelled images, here {self.n_labelled} of {self.n}")
        return self

    @model_validator(mode="after")
    def _check_outcomes(self) -> Accuracy:
        if self.outcomes is None:
            return self
        flags = self.outcomes.flags()
        agreed = {"n": self.outcomes.n, "agreement_pct": 100 * int(flags.agrees.sum()) / self.outcomes.n}
        for name, found in (agreed | _labelled_figures(flags.right_fp32, flags.right, self.n_labelled)).items():
            stated = getattr(self, name)
            if stated is None or not math.isclose(stated, found, rel_tol=0, abs_tol=_ROUNDING):
                raise ValueError(f"{name} is {stated}, but the outcomes of the images give {found:g}")
        return self

    @model_validator(mode="after")
    def _check_drop(self) -> Accuracy:
        before, after, drop = self.top1_fp32_pct, self.top1_pct, self.top1_drop_pp
        if before is None or after is None or drop is None or self.top1_lost is None or self.top1_gained is None:
            return self
        if self.top1_lost + self.top1_gained > self.n_labelled:
            raise ValueError(
                f"{self.top1_lost} lost and {self.top1_gained} gained answers are more than {self.n_labelled} images"
            )
        for found in (before - after, 100 * (self.top1_lost - self.top1_gained) / self.n_labelled):
            if not math.isclose(drop, found, rel_tol=0, abs_tol=_ROUNDING):
                raise ValueError(f"top1_drop_pp is {drop}, but the figures beside it give {found:g}")
        return self

    @property
    def source(self) -> str:
        """What produced the figures, in words: ``onnxruntime-cpu, executed``."""
        return f"{self.runtime}, {'executed' if self.executed else 'simulated'}"


def _labelled_figures(right_fp32: Flags, right: Flags, n_labelled: int) -> dict[str, float | int]:
    """The figures that follow from which images are right, bool [n] each; none without a known class.

    Raises ValueError when more images are right than have a class.
    """
    before, after = int(right_fp32.sum()), int(right.sum())
    if max(before, after) > n_labelled:
        raise ValueError(f"n_labelled is {n_labelled}, but the outcomes have {max(before, after)} right answers")
    if n_labelled == 0:
        return {}
    return {
        "top1_fp32_pct": 100 * before / n_labelled,
        "top1_pct": 100 * after / n_labelled,
        "top1_drop_pp": 100 * (before - after) / n_labelled,
        "top1_lost": int((right_fp32 & ~right).sum()),
        "top1_gained": int((~right_fp32 & right).sum()),
    }


class AccuracyMeter:
    """Sums over batches, and three bytes for each image.

    >>> meter = AccuracyMeter()
    >>> meter.update(np.array([[1.0, 3.0]]), np.array([[1.0, 2.0]]), np.array([1]))
    >>> meter.result(runtime="onnxruntime", executed=True).top1_pct
    100.0
    """

    def __init__(self) -> None:
        self._closeness = ClosenessMeter()
        self._n_labelled = self._right_top5 = 0
        self._right_fp32, self._right, self._agrees = bytearray(), bytearray(), bytearray()  # 0 or 1 for each image
        self._margin = 0.0

    def update(self, reference: NDArray[Any], logits: NDArray[Any], class_index: NDArray[Any]) -> None:
        """Add a batch: ``reference`` and ``logits`` [B, K], ``class_index`` [B] with -1 where the class is unknown.

        Raises ValueError when the shapes or the classes do not fit, LevitEdgeError when a logit is NaN or infinite.
        """
        reference, logits = finite_logits(reference, "the reference"), finite_logits(logits, "the built model")
        class_index = np.asarray(class_index)
        if reference.shape != logits.shape or class_index.shape != reference.shape[:1]:
            raise ValueError(f"shapes {reference.shape}, {logits.shape} and {class_index.shape} do not match")
        if class_index.size and not UNKNOWN_CLASS <= class_index.min() <= class_index.max() < logits.shape[1]:
            raise ValueError(f"class indices must lie in -1..{logits.shape[1] - 1}: {class_index}")
        self._closeness.update(reference, logits)
        self._margin += float(margins(reference).sum())
        self._keep_outcomes(best_class(reference), best_class(logits), class_index)
        self._n_labelled += int((class_index != UNKNOWN_CLASS).sum())
        best = np.argsort(-logits, axis=1, kind="stable")[:, :TOP_K]  # [B, min(K, 5)]; ties: the lowest index first
        self._right_top5 += int((best == class_index[:, None]).any(axis=1).sum())

    def _keep_outcomes(self, before: NDArray[np.intp], after: NDArray[np.intp], class_index: NDArray[Any]) -> None:
        """The best classes [B] of both models; no best class is UNKNOWN_CLASS, so such an image is never right."""
        self._right_fp32 += (before == class_index).tobytes()
        self._right += (after == class_index).tobytes()
        self._agrees += (before == after).tobytes()

    def result(self, *, runtime: str, executed: bool) -> Accuracy:
        """The figures so far; ValueError when no image was added."""
        close, labelled = self._closeness.result(runtime), self._n_labelled
        right_fp32, right, agrees = (
            np.frombuffer(bytes(kept), dtype=np.bool_) for kept in (self._right_fp32, self._right, self._agrees)
        )
        figures: dict[str, Any] = {
            "runtime": runtime,
            "executed": executed,
            "n": close.n,
            "n_labelled": labelled,
            "top5_pct": 100 * self._right_top5 / labelled if labelled else None,
            "agreement_pct": close.agreement_pct,
            "sqnr_db": close.sqnr_db,
            "float_margin": self._margin / close.n,
            "outcomes": Outcomes.of(right_fp32, right, agrees),
        }
        return Accuracy.model_validate(figures | _labelled_figures(right_fp32, right, labelled))
