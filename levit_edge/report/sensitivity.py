"""The answer of ``sensitivity`` as data: the noise that each stored tensor adds to the logits."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from levit_edge.record import Record
from levit_edge.report.schema import EvaluationSet

SHOWN = 20  # tensors of each target, in the terminal and in the picture
COLUMNS = ("tensor", "alone", "changed", "without", "gain", "MACs", "kB")


class TensorNoise(Record):
    """One tensor that the recipe stores as integers: the ``tensor`` of ``layer``, an activation or a weight.

    ``alone_db`` is the SQNR of the logits where only this tensor is rounded, and ``alone_changed_pct`` the share of the
    images with another answer then. ``without_db`` and ``without_changed_pct`` are those where every other tensor is
    rounded, and ``gain_db`` is what that gains over the whole recipe. An SQNR is None where the logits do not differ.

    ``macs`` are the multiply-adds of one image in the layers that read it, which compute in float where it is float.
    ``elements`` counts the values, of one image where it is an activation; ``extra_bytes`` is what a float weight adds
    to the model file.
    """

    layer: str
    tensor: str
    kind: Literal["activation", "weight"]
    alone_db: float | None
    alone_changed_pct: float = Field(ge=0, le=100)
    without_db: float | None
    without_changed_pct: float = Field(ge=0, le=100)
    gain_db: float | None
    macs: int = Field(ge=0)
    elements: int = Field(ge=1)
    extra_bytes: int = Field(ge=0)


class TargetSensitivity(Record):
    """All tensors of one target, the one whose float form would gain most first; ``sqnr_db`` is that of the recipe."""

    sqnr_db: float | None
    changed_pct: float = Field(ge=0, le=100)
    tensors: tuple[TensorNoise, ...]


class SensitivityReport(Record):
    """The answer for every target, computed in torch by the program that is lowered, on ``images``."""

    model: str
    recipe: str
    images: EvaluationSet
    targets: dict[str, TargetSensitivity]


def cells(row: TensorNoise) -> tuple[str, ...]:
    """One row of the table, by :data:`COLUMNS`."""
    return (
        f"{row.layer} {row.tensor}",
        decibels_text(row.alone_db),
        f"{row.alone_changed_pct:.1f} %",
        decibels_text(row.without_db),
        "-" if row.gain_db is None else f"{row.gain_db:+.2f} dB",
        f"{row.macs / 1e6:.2f} M",
        f"{row.extra_bytes / 1e3:.1f}",
    )


def decibels_text(value_db: float | None) -> str:
    """``28.4 dB``; ``exact`` where nothing differs."""
    return "exact" if value_db is None else f"{value_db:.1f} dB"
