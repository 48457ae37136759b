"""The difference of two builds for people: the same tables for the terminal and for Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from levit_edge.report.difference import BuildDifference, BundleDifference, Change, ConstantChange, ScaleChange
from levit_edge.report.figures import ABSENT
from levit_edge.report.markdown import environment
from levit_edge.wording import listed

MOST_ROWS = 20  # of scales and of constants

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA256_SHOWN = 12
_FORMS = {"pp": "{:.2f}", "dB": "{:.2f}", "ms": "{:.2f}", "bytes": "{:,.0f}"}
_RELATIVE = ("bytes", "ms", "instructions")

Cells = tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """One table; ``more`` rows of it are left out."""

    title: str
    columns: Cells
    rows: tuple[Cells, ...]
    more: int = 0


def sections(difference: BuildDifference) -> Iterator[Section]:
    """The inputs first, then everything about one target after the other; only what differs."""
    inputs = [change for change in difference.changes if change.target is None]
    yield from _changes("inputs", inputs)
    bundles = {bundle.target: bundle for bundle in difference.bundles}
    targets = dict.fromkeys(change.target for change in difference.changes if change.target is not None)
    for target in sorted(targets | dict.fromkeys(bundles)):
        changes = [change for change in difference.changes if change.target == target]
        yield from _target_changes(target, changes)
        if target in bundles:
            yield from _bundle(bundles[target])


def remarks(difference: BuildDifference) -> Iterator[str]:
    """What stands below the tables: targets of one side, files, layers of one side, and what was not compared."""
    for name, targets in ((difference.before, difference.targets_before), (difference.after, difference.targets_after)):
        if targets:
            yield f"only in {name}: {listed(targets)}"
    for bundle in difference.bundles:
        if bundle.files:
            yield f"{bundle.target}: other bytes in {listed(bundle.files, 8)}"
        for name, layers in ((difference.before, bundle.layers_before), (difference.after, bundle.layers_after)):
            if layers:
                yield f"{bundle.target}: layers only in {name}: {listed(layers, MOST_ROWS)}"
    notes = dict.fromkeys(note for bundle in difference.bundles for note in bundle.notes)
    for note in notes:
        yield f"{listed(b.target for b in difference.bundles if note in b.notes)}: {note}"


def render_markdown(difference: BuildDifference) -> str:
    """The same as the terminal shows, as a Markdown page."""
    template = environment().get_template("difference.md.j2")
    return template.render(
        difference=difference, sections=list(sections(difference)), remarks=list(remarks(difference))
    )


def _target_changes(target: str, changes: Sequence[Change]) -> Iterator[Section]:
    here = [change for change in changes if change.device is None]
    kinds = {"inputs": "identity", "versions": "version", "figures": "figure"}
    for title, kind in kinds.items():
        yield from _changes(f"{target}: {title}", [change for change in here if change.kind == kind])
    yield from _changes(f"{target}: timing, never twice the same", [c for c in here if c.kind == "timing"])
    for device in dict.fromkeys(change.device for change in changes if change.device is not None):
        there = [change for change in changes if change.device == device]
        yield from _changes(f"{target}: figures on {device}", [c for c in there if c.kind != "timing"])
        yield from _changes(f"{target}: on {device}, differs from run to run", [c for c in there if c.kind == "timing"])


def _changes(title: str, changes: Sequence[Change]) -> Iterator[Section]:
    columns: Cells = ("", "before", "after", "change")
    if not any(_delta(change) for change in changes):
        columns = columns[:-1]
    if changes:
        yield Section(title, columns, tuple(_change_cells(change)[: len(columns)] for change in changes))


def _change_cells(change: Change) -> Cells:
    short = change.field.removeprefix(f"targets.{change.target}.").removeprefix(f"devices.{change.device}.")
    before, after = (_text(value, change.unit) for value in (change.before, change.after))
    if before == after:  # a form that hides the difference
        before, after = str(change.before), str(change.after)
    return short, before, after, _delta(change)


def _text(value: JsonValue, unit: str) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, list):
        return listed((_text(entry, unit) for entry in value), 8)
    if isinstance(value, str):
        return value[:_SHA256_SHOWN] if _SHA256.fullmatch(value) else value
    if isinstance(value, bool | dict):
        return str(value).lower()
    if unit == "instructions":
        return f"{value / 1e6:.1f} M"
    return _FORMS.get(unit, "{:.6g}").format(value)


def _delta(change: Change) -> str:
    """The change with its unit, and in percent where the size of the whole says something."""
    if change.change is None:
        return ""
    if change.unit == "instructions":
        text = f"{change.change / 1e6:+.1f} M instructions"
    else:
        form = _FORMS.get(change.unit, "{:.4g}").replace(":", ":+")
        text = f"{form.format(change.change)} {change.unit}".rstrip()
    before: Any = change.before
    return f"{text} ({100 * change.change / before:+.1f} %)" if change.unit in _RELATIVE and before else text


def _bundle(bundle: BundleDifference) -> Iterator[Section]:
    target = bundle.target
    operators = [(f"{o.name} {o.precision} {o.placement}", str(o.before), str(o.after)) for o in bundle.operators]
    if operators:
        yield Section(f"{target}: operators", ("", "before", "after"), tuple(operators))
    yield from _largest_first(
        f"{target}: scales of activations",
        ("layer", "tensor", "before", "after", "ratio", "zero point"),
        [_scale_cells(row) for row in bundle.scales],
    )
    yield from _largest_first(
        f"{target}: weights and other constants",
        ("layer", "constant", "values that differ", "scale, largest ratio"),
        [_constant_cells(row) for row in bundle.constants],
    )


def _largest_first(title: str, columns: Cells, rows: Sequence[Cells]) -> Iterator[Section]:
    if rows:
        yield Section(title, columns, tuple(rows[:MOST_ROWS]), more=max(0, len(rows) - MOST_ROWS))


def _scale_cells(row: ScaleChange) -> Cells:
    before, after = ("float" if scale is None else f"{scale:.4g}" for scale in (row.scale_before, row.scale_after))
    points = [ABSENT if point is None else str(point) for point in (row.zero_point_before, row.zero_point_after)]
    zero_point = points[0] if points[0] == points[1] else f"{points[0]} -> {points[1]}"
    return row.layer, row.tensor, before, after, _ratio(row.ratio), zero_point


def _constant_cells(row: ConstantChange) -> Cells:
    if row.differing_share is None:
        return row.layer, row.constant, f"{row.before or ABSENT} -> {row.after or ABSENT}", ABSENT
    return row.layer, row.constant, f"{100 * row.differing_share:.2f} %", _ratio(row.scale_ratio)


def _ratio(ratio: float | None) -> str:
    return ABSENT if ratio is None else f"{ratio:.4g}x"
