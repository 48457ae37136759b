"""What a build kept float beyond its recipe, to reach the accuracy that was asked for."""

from __future__ import annotations

from levit_edge.record import Record


class Confirmed(Record):
    """SQNR of the simulated program in dB, and its top-1 drop in percentage points, on the images that decide.

    A ratio of None is infinite; a drop of None was not measured.
    """

    sqnr_db: float | None
    top1_drop_pp: float | None = None


class KeptTensor(Record):
    """One tensor or layer that stays float, and the SQNR with it and all before it, on the images of the search.

    ``float_macs`` are the multiply-adds of one image that become float by it. ``confirmed`` is None where the images
    that decide were not asked.
    """

    tensor: str
    sqnr_db: float | None
    float_macs: int
    confirmed: Confirmed | None = None


class MixedPrecision(Record):
    """How the tensors that stay float were chosen: one by one, until what was ``confirmed`` met the goals.

    ``goal_db`` and ``goal_drop_pp`` are None where they were not asked for. The search looked at ``images`` of the
    evaluation, and ``confirmed_images`` of them decided. ``before_db`` is what the recipe had by itself on the images
    of the search; None is infinite. ``before_confirmed`` is None where the images that decide were not asked about it.
    ``confirmed`` are the figures of what was chosen.
    """

    goal_db: float | None
    goal_drop_pp: float | None
    images: int
    confirmed_images: int
    before_db: float | None
    before_confirmed: Confirmed | None = None
    reached: bool
    confirmed: Confirmed
    kept: tuple[KeptTensor, ...] = ()
