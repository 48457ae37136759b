"""What a build kept float beyond its recipe, to reach the signal to noise ratio that was asked for."""

from __future__ import annotations

from levit_edge.record import Record


class KeptTensor(Record):
    """One tensor that stays float, and the estimate with it and all before it.

    ``sqnr_db`` is that of the simulated program over the images of the search, ``at_least_db`` the lower end of its
    one-sided 95 % interval. ``float_macs`` are the multiply-adds of one image that become float by it.
    """

    tensor: str
    sqnr_db: float | None
    at_least_db: float | None
    float_macs: int


class MixedPrecision(Record):
    """How the tensors that stay float were chosen: one by one, until ``at_least_db`` was ``goal_db`` or none was left.

    ``images`` of the evaluation were used. ``before_db`` is what the recipe had by itself. A ratio of None
    is infinite.
    """

    goal_db: float
    images: int
    before_db: float | None
    reached: bool
    kept: tuple[KeptTensor, ...] = ()
