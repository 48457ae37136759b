"""The answer of ``inspect --diverge`` as data."""

from __future__ import annotations

from pydantic import Field

from levit_edge.record import Record


class Difference(Record):
    """How far the values of a layer are from other values, in quantization steps and as signal to noise ratio.

    ``sqnr_db`` is None when there is no finite ratio: the values are equal, or some are not finite. ``max_steps`` and
    ``mean_steps`` are None when some values are not finite. ``differing_share`` is the share of the values, 0 to 1,
    that are more than half a step away: for a layer stored as integers, the share of integers that differ.
    """

    sqnr_db: float | None
    max_steps: float | None
    mean_steps: float | None
    differing_share: float = Field(ge=0, le=1)


class LayerRow(Record):
    """One layer, compared in three ways.

    ``program`` compares the runtime with the program, each computing from the image on. ``local`` compares it with
    what the program makes of the runtime's own values of the earlier layers. ``float_sqnr_db`` compares it with the
    float reference in the same runtime; None without a finite ratio. ``departs`` says why the layer departs, and is
    empty if it does not.
    """

    index: int = Field(ge=0)
    kind: str
    name: str
    shape: tuple[int, ...]
    stored: bool
    program: Difference
    local: Difference
    float_sqnr_db: float | None
    departs: str = ""


class Divergence(Record):
    """Every layer of a bundle in the order of execution; ``first`` is the index of the first that departs, or None.

    ``executed`` is false where the runtime is not the target's own. ``undisturbed``: reading the layers out left the
    logits as they were, bit for bit.
    """

    bundle: str
    target: str
    image: str
    runtime: str
    executed: bool
    undisturbed: bool
    first: int | None
    layers: tuple[LayerRow, ...]
