"""The fields in which two records differ, whatever their fields are: a new field of a report needs no change here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from levit_edge.record import Record
from levit_edge.report.difference import Change, ChangeKind
from levit_edge.report.figures import READING_ORDER
from levit_edge.report.schema import Report
from levit_edge.wording import listed

PRESENT = "present"  # a whole part that only one side has
COUNT_NOISE = 1e-3  # of an instruction count: those of one file on one core were seen to differ by 0.013 %
NAMED_RANGES = 3
WHOLE_LIST = 8  # longer lists are shown by what the other side lacks

LEFT_OUT = {
    "agreement": "every pair of participants; each file against its own program is compared instead",
    "float_tensors": "they follow from the recipe and the target",
    "gates": "they follow from the figures, and `gate` judges them",
    "kernels": "a table of functions, which `bench` shows",
    "mixed_precision": "how the tensors were chosen that `recipe_settings.keep_float` names",
    "notes": "sentences, not values",
    "outcomes": "bits of every single image",
    "ranges": "those that moved are counted and named, not listed",
    "recipe_settings.base": "the target's `recipe_base`",
    "recipe_settings.name": "the target's `recipe`",
    "schema_version": "a reader takes only its own",
    "warnings": "sentences about figures that are compared themselves",
}
_TARGET_IDENTITY = {"bundle", "manifest", "model_file", "recipe", "recipe_base", "recipe_settings"}
_UNITS = {"_pct": "pp", "_pp": "pp", "_db": "dB", "_bytes": "bytes", "_ms": "ms", "instructions": "instructions"}

Path = tuple[str, ...]


@dataclass(frozen=True)
class Leaf:
    """One value that differs; None where a side does not have it."""

    path: Path
    before: JsonValue
    after: JsonValue


def leaves(before: Any, after: Any, left_out: Mapping[str, str] = LEFT_OUT, path: Path = ()) -> Iterator[Leaf]:
    """Every value that differs between two records, dicts or values.

    Of two records the fields that both classes have are compared, of two dicts all keys. ``left_out`` has the names, or
    dotted paths from here on, that are not compared. A part that only one side has is one leaf.
    """
    if isinstance(before, Record) and isinstance(after, Record):
        shared = [name for name in type(before).model_fields if name in type(after).model_fields]
        pairs = {name: (getattr(before, name), getattr(after, name)) for name in shared}
    elif _is_compared_by_parts(before, after):
        old, new = _parts(before), _parts(after)
        pairs = {key: (old.get(key), new.get(key)) for key in {**old, **new}}
    else:
        if before != after:
            yield Leaf(path, _plain(before, after), _plain(after, before))
        return
    for name, (one, other) in pairs.items():
        if name not in left_out:
            inner = {key.removeprefix(f"{name}."): why for key, why in left_out.items()}
            yield from leaves(one, other, inner, (*path, name))


def _is_compared_by_parts(before: Any, after: Any) -> bool:
    """True for two dicts or two lists of records; of plain values, an empty dict says only that it is empty."""
    if isinstance(before, dict) and isinstance(after, dict):
        return bool(before and after) or _holds_records({**before, **after}.values())
    return isinstance(before, tuple) and isinstance(after, tuple) and _holds_records((*before, *after))


def _holds_records(values: Iterable[Any]) -> bool:
    return any(isinstance(value, Record) for value in values)


def _parts(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {str(index): entry for index, entry in enumerate(value)}


def _plain(value: Any, other: Any) -> JsonValue:
    if isinstance(value, Record | dict):
        return PRESENT if value else None
    if not isinstance(value, tuple | list):
        plain: JsonValue = value
        return plain
    there = other if isinstance(other, tuple | list) else ()
    if max(len(value), len(there)) <= WHOLE_LIST:
        return list(value)
    return [entry for entry in value if entry not in there] or f"{len(value)} entries, otherwise ordered or repeated"


def report_changes(before: Record, after: Record) -> list[Change]:
    """What differs between two reports, or records with fields of a report, in reading order.

    A target that only one side has is left out; whoever calls names it.
    """
    changes = [_change(leaf) for leaf in leaves(before, after) if not _is_target(leaf.path)]
    if isinstance(before, Report) and isinstance(after, Report):
        changes += [*_program_changes(before, after), *_range_changes(before, after)]
    return sorted(changes, key=_reading_order)


def manifest_changes(target: str, before: Record, after: Record, left_out: Mapping[str, str]) -> list[Change]:
    """What differs between the manifests of two bundles of ``target``."""
    return [_change(leaf) for leaf in leaves(before, after, left_out, ("targets", target, "manifest"))]


def _range_changes(before: Report, after: Report) -> Iterator[Change]:
    """How many quantization ranges of a target moved, and the first few by name."""
    for target in before.targets.keys() & after.targets.keys():
        old, new = before.targets[target].ranges, after.targets[target].ranges
        moved = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        if moved and old and new:
            words = f"{len(moved)} of {len(new)} moved: {listed(moved, NAMED_RANGES)}"
            yield _change(Leaf(("targets", target, "ranges"), f"{len(old)} ranges", words))


def _is_target(path: Path) -> bool:
    return path[0] == "targets" and len(path) <= 2


def _program_changes(before: Report, after: Report) -> Iterator[Change]:
    """How close each model file comes to its own program, where that differs."""
    old, new = _against_program(before), _against_program(after)
    for target, participant, figure in {**old, **new}:
        one, other = old.get((target, participant, figure)), new.get((target, participant, figure))
        if one != other and target in before.targets and target in after.targets:
            yield _change(Leaf(("targets", target, "agreement_with_program", participant, figure), one, other))


def _against_program(report: Report) -> dict[tuple[str, str, str], float | None]:
    found: dict[tuple[str, str, str], float | None] = {}
    for participant, agreement_pct, sqnr_db in () if report.agreement is None else report.agreement.against_program():
        key = (participant.target or "", participant.name)
        found |= {(*key, "agreement_pct"): agreement_pct, (*key, "sqnr_db"): sqnr_db}
    return found


def _change(leaf: Leaf) -> Change:
    path, before, after, kind = leaf.path, leaf.before, leaf.after, _kind(leaf)
    numbers = kind != "identity" and _is_number(before) and _is_number(after)  # a seed has no distance
    return Change(
        field=".".join(path),
        kind=kind,
        target=path[1] if path[0] == "targets" else None,
        device=path[3] if len(path) > 3 and path[2] == "devices" else None,
        before=before,
        after=after,
        change=after - before if numbers else None,  # type: ignore[operator]  # both are numbers
        unit=_unit(path) if numbers else "",
    )


def _is_number(value: JsonValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kind(leaf: Leaf) -> ChangeKind:
    path = leaf.path
    if "tool_versions" in path:
        return "version"
    if "latency" in path or _is_count_noise(leaf):
        return "timing"
    return "identity" if path[0] != "targets" or path[2] in _TARGET_IDENTITY else "figure"


def _is_count_noise(leaf: Leaf) -> bool:
    """True for instructions on a device that differ by no more than two counts of the same file do."""
    before, after = leaf.before, leaf.after
    if "instructions" not in leaf.path or not (_is_number(before) and _is_number(after)):
        return False
    return leaf.path[-1] == "spread_pct" or abs(after - before) <= COUNT_NOISE * before  # type: ignore[operator]


def _unit(path: Path) -> str:
    """From the last name, which carries its unit, or for ``fp32_ms.median`` from the one before."""
    name = path[-2] if path[-1] in ("median", "p90") else path[-1]
    return next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), "")


def _reading_order(change: Change) -> tuple[bool, str, bool, str, int]:
    """Inputs first, then target by target; a device's figures after those of this host."""
    rest = change.field.removeprefix(f"targets.{change.target}.").removeprefix(f"devices.{change.device}.")
    part = rest.partition(".")[0]
    place = READING_ORDER.index(part) if part in READING_ORDER else len(READING_ORDER)
    return change.target is not None, change.target or "", change.device is not None, change.device or "", place
