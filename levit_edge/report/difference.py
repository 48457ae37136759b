"""The answer of ``diff`` as data: what differs between two builds, and the cause as far as it is stated in them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from levit_edge.record import Record
from levit_edge.report.answers import Placement, Precision

ChangeKind = Literal["identity", "version", "figure", "timing"]


class Change(Record):
    """One field of the reports or manifests that differs, in dotted form: ``targets.onnx.accuracy.top1_pct``.

    ``before`` and ``after`` are None where a side does not have the value, and ``present`` for a whole part that only
    one side has. Of a list of more than eight entries, each has the entries that the other lacks. ``change`` is
    after - before of two figures in ``unit``: ``pp`` (percentage points), ``dB``, ``bytes``, ``ms``, ``instructions``,
    or empty for a plain number. ``timing`` differs from run to run, as instruction counts do by less than 0.1 %.
    """

    field: str
    kind: ChangeKind
    target: str | None = None
    device: str | None = None
    before: JsonValue
    after: JsonValue
    change: float | None = None
    unit: str = ""


class OperatorChange(Record):
    """Operators of one kind in the two model files."""

    name: str
    precision: Precision
    placement: Placement
    before: int = Field(ge=0)
    after: int = Field(ge=0)


class ScaleChange(Record):
    """The scale and zero point of one activation of the program.

    ``tensor`` says which one of ``layer``: its ``output``, its ``input``, or the operator on the way that gives it.
    A side where the activation is float has None; ``ratio`` is after / before.
    """

    layer: str
    tensor: str
    scale_before: float | None
    scale_after: float | None
    zero_point_before: int | None
    zero_point_after: int | None
    ratio: float | None


class ConstantChange(Record):
    """The ``weight``, the ``bias`` or another constant of one layer of the program.

    ``before`` and ``after`` are type and shape, ``int8 [64, 32]``; None where a side lacks it. ``differing_share`` is
    the share, 0 to 1, of the stored values that differ, of an int32 bias the share of the real values that are more
    than their rounding apart; None where type or shape differ. ``scale_ratio`` is after / before of the channel whose
    scale changed most; None without scales to compare.
    """

    layer: str
    constant: str
    before: str | None
    after: str | None
    differing_share: float | None = Field(ge=0, le=1)
    scale_ratio: float | None


class BundleDifference(Record):
    """One target of which both sides have the bundle, or why something of it could not be compared (``notes``).

    ``files`` are those with other bytes, without the program, whose values are compared. The largest changes of
    ``scales`` and ``constants`` come first. ``layers_before`` and ``layers_after`` are layers that one side lacks.
    """

    target: str
    files: tuple[str, ...] = ()
    operators: tuple[OperatorChange, ...] = ()
    scales: tuple[ScaleChange, ...] = ()
    constants: tuple[ConstantChange, ...] = ()
    layers_before: tuple[str, ...] = ()
    layers_after: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """True when anything but a note is there."""
        parts = (self.files, self.operators, self.scales, self.constants, self.layers_before, self.layers_after)
        return any(parts)


class BuildDifference(Record):
    """What ``after`` has else than ``before``; ``cause`` says why in one line, as far as the builds state it.

    ``differs`` is False only if nothing that could be compared differs, timing included. ``targets_before`` and
    ``targets_after`` are targets that one side lacks.
    """

    before: str
    after: str
    differs: bool
    cause: str
    changes: tuple[Change, ...] = ()
    targets_before: tuple[str, ...] = ()
    targets_after: tuple[str, ...] = ()
    bundles: tuple[BundleDifference, ...] = ()
