"""Which fields of two reports differ, and what that says about the cause."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import Field

from levit_edge.record import Record
from levit_edge.report.cause import NO_DIFFERENCE, NOT_VISIBLE, ONLY_TIMING, OTHER_TARGETS, cause
from levit_edge.report.compare_records import LEFT_OUT, PRESENT, Leaf, leaves, report_changes
from levit_edge.report.difference import Change
from levit_edge.report.schema import DeviceFigures, Milliseconds, Report
from tests.levit_edge.report import reports
from tests.levit_edge.report.reports import FAILED, PASSED


def _report(**target: Any) -> Report:
    return reports.report(onnx=reports.target(**target))


def _model(**changes: Any) -> Report:
    report = _report()
    return report.model_copy(update={"model": report.model.model_copy(update=changes)})


def _by_field(before: Report, after: Report) -> dict[str, Change]:
    return {change.field: change for change in report_changes(before, after)}


def _cause(before: Report, after: Report) -> str:
    return cause(report_changes(before, after), bundles_differ=False, targets_differ=False)


def test_equal_reports_have_no_change() -> None:
    everything = reports.report(onnx=reports.everything_on_a_device()).model_copy(
        update={"agreement": reports.agreement()}
    )
    assert report_changes(everything, everything.model_copy(deep=True)) == []
    assert _cause(everything, everything) == NO_DIFFERENCE


def test_each_figure_has_its_change_and_its_unit() -> None:
    faster = reports.latency(int8_ms=Milliseconds(median=3.0, p90=4.25))
    after = _report(
        size_bytes=8_900_000,
        latency=faster,
        accuracy=reports.accuracy(top1_pct=80.5, top1_drop_pp=0.8, top1_lost=10, sqnr_db=26.25),
    )
    found = _by_field(_report(), after)
    figures = {field.removeprefix("targets.onnx."): (change.change, change.unit) for field, change in found.items()}
    assert figures == {
        "size_bytes": (100_000, "bytes"),
        "accuracy.top1_pct": (-0.5, "pp"),
        "accuracy.top1_drop_pp": (0.5, "pp"),
        "accuracy.top1_lost": (5.0, ""),
        "accuracy.sqnr_db": (-1.0, "dB"),
        "latency.int8_ms.median": (-1.0, "ms"),
    }
    kinds = [change.kind for change in found.values()]
    assert kinds == ["figure"] * 5 + ["timing"]
    assert {change.target for change in found.values()} == {"onnx"}


def test_a_seed_differs_by_no_amount() -> None:
    (change,) = report_changes(reports.calibrated(seed=3), reports.calibrated(seed=4))
    assert (change.before, change.after, change.change, change.unit) == (3, 4, None, "")


def test_the_figures_of_a_device_come_after_those_of_this_host() -> None:
    counted = reports.instructions(built=60_000_000)
    before = reports.report(onnx=reports.counted(reports.instructions()))
    changed = {"size_bytes": 1, "latency": reports.latency(runs=50)}
    after = reports.report(onnx=reports.counted(counted).model_copy(update=changed))
    here, *changes = report_changes(before, after)
    assert here.field == "targets.onnx.size_bytes"
    there = f"targets.onnx.devices.{reports.DEVICE}.instructions"
    assert [change.field for change in changes] == [
        "targets.onnx.latency.runs",
        f"{there}.instructions",
        f"{there}.ratio",
    ]
    assert (changes[1].device, changes[1].change, changes[1].unit) == (reports.DEVICE, -1_200_000, "instructions")
    assert (changes[2].unit, changes[2].change) == ("", pytest.approx(116.7 / 60 - 116.7 / 61.2))


@pytest.mark.parametrize(
    ("built", "kind", "words"), [(61_250_000, "timing", ONLY_TIMING), (61_270_000, "figure", NOT_VISIBLE)]
)
def test_instructions_differ_a_little_from_run_to_run(built: int, kind: str, words: str) -> None:
    before, after = (reports.report(onnx=reports.counted(reports.instructions(built=n))) for n in (61_200_000, built))
    assert {change.kind for change in report_changes(before, after)} == {kind}
    assert _cause(before, after) == words


def test_ranges_that_moved_are_counted_and_named() -> None:
    old = {"head input": (0.0, 1.0), "head weight": (-1.0, 1.0)}
    (change,) = report_changes(_report(ranges=old), _report(ranges=old | {"head input": (0.0, 2.0)}))
    assert (change.field, change.kind, change.target) == ("targets.onnx.ranges", "figure", "onnx")
    assert change.after == "1 of 2 moved: head input"
    assert report_changes(_report(), _report(ranges=old)) == []  # an earlier version did not record them


def test_what_only_one_side_has_is_one_change() -> None:
    found = _by_field(_report(), _report(latency=None, devices={"board": DeviceFigures()}))
    assert {field: (change.before, change.after) for field, change in found.items()} == {
        "targets.onnx.latency": (PRESENT, None),
        "targets.onnx.devices.board": (None, PRESENT),
    }
    more = reports.report(onnx=reports.target(), coreml=reports.UNMEASURED)
    assert report_changes(_report(), more) == []  # a whole target is named by whoever compares


def test_what_is_bulky_or_follows_from_figures_is_left_out_for_a_stated_reason() -> None:
    before, after = _report(gates=(PASSED,), warnings=("a",)), _report(gates=(FAILED,))
    assert report_changes(before, after) == [] and all(LEFT_OUT.values())


def test_how_close_a_file_comes_to_its_program_is_compared() -> None:
    agreement = reports.agreement()
    rows = [list(row) for row in agreement.agreement_pct]
    rows[1][2] += 25
    other = agreement.model_copy(update={"agreement_pct": tuple(map(tuple, rows))})
    before, after = (_report().model_copy(update={"agreement": table}) for table in (agreement, other))
    (change,) = report_changes(before, after)
    assert change.field == "targets.onnx.agreement_with_program.onnx x.agreement_pct"
    assert (change.change, change.unit, change.kind) == (25, "pp", "figure")


class _Part(Record):
    loss_db: float


class _Whole(Record):
    parts: dict[str, _Part] = Field(default_factory=dict)
    listed: tuple[_Part, ...] = ()
    names: tuple[str, ...] = ()
    counts: dict[str, int] = Field(default_factory=dict)
    notes: str = ""


def test_fields_that_this_version_does_not_know_are_compared_too() -> None:
    before = _Whole(parts={"a": _Part(loss_db=1)}, listed=(_Part(loss_db=1),), counts={"x": 1, "y": 1}, notes="old")
    after = _Whole(parts={"a": _Part(loss_db=3)}, listed=(_Part(loss_db=1), _Part(loss_db=2)), counts={"x": 2})
    assert list(leaves(before, after)) == [
        Leaf(("parts", "a", "loss_db"), 1.0, 3.0),
        Leaf(("listed", "1"), None, PRESENT),
        Leaf(("counts", "x"), 1, 2),
        Leaf(("counts", "y"), 1, None),
    ]
    assert list(leaves(before, after, {"parts": "", "listed": "", "counts.x": "", "notes": ""})) == [
        Leaf(("counts", "y"), 1, None)
    ]
    assert list(leaves(_Whole(), _Whole(counts={"x": 2}))) == [Leaf(("counts",), None, PRESENT)]


def test_of_a_long_list_only_what_the_other_side_lacks_is_kept() -> None:
    names = tuple("abcdefghij")
    assert list(leaves(_Whole(names=names), _Whole(names=(*names[:9], "z")))) == [Leaf(("names",), ["j"], ["z"])]
    (turned,) = leaves(_Whole(names=names), _Whole(names=names[::-1]))
    assert turned.before == "10 entries, otherwise ordered or repeated"
    assert list(leaves(_Whole(names=("a",)), _Whole(names=("b", "c")))) == [Leaf(("names",), ["a"], ["b", "c"])]


CAUSES = {
    "most likely cause: other weights (sha256)": _model(sha256="ef" * 32),
    "most likely cause: another variant of the model (variant); other weights (sha256)": _model(
        variant="levit-192", sha256="ef" * 32
    ),
    "most likely cause: another image size (image_size)": _model(image_size=256),
    "most likely cause: another calibration (seed, sha256)": reports.calibrated(seed=1, sha256="0" * 64),
    "most likely cause: calibrated on one side only (calibration)": _report().model_copy(update={"calibration": None}),
    "most likely cause: another recipe (recipe)": _report(recipe="w8a16"),
    "most likely cause: another recipe (weight_range)": _report(
        recipe_settings={"base": "int8", "weight_range": "mse"}
    ),
    "most likely cause: other versions (onnx)": _report(tool_versions={"torch": "2.13.0", "onnx": "1.24.0"}),
    "most likely cause: other versions (onnx, torch, onnxscript)": _report(
        tool_versions={"torch": "2.14.0", "onnxscript": "0.8"}
    ),
    ONLY_TIMING: _report(latency=reports.latency(speedup=1.95)),
    NOT_VISIBLE: _report(accuracy=reports.accuracy(sqnr_db=3.5)),
    "only what the builds are called differs (source)": _model(source="elsewhere"),
}


@pytest.mark.parametrize("words", CAUSES)
def test_the_cause_is_what_the_identities_show(words: str) -> None:
    assert _cause(_report(), CAUSES[words]) == words


def test_another_host_is_named_after_what_explains_more() -> None:
    other = _model(sha256="ef" * 32)
    other = other.model_copy(update={"host": other.host.model_copy(update={"cpu_count": 64})})
    assert _cause(_report(), other) == "most likely cause: other weights (sha256); another host (cpu_count)"


def test_a_difference_in_the_files_has_no_visible_cause_and_other_targets_are_said() -> None:
    assert cause([], bundles_differ=True, targets_differ=False) == NOT_VISIBLE
    timing = report_changes(_report(), CAUSES[ONLY_TIMING])
    assert cause(timing, bundles_differ=True, targets_differ=False) == NOT_VISIBLE
    assert cause([], bundles_differ=False, targets_differ=True) == f"{OTHER_TARGETS}{NO_DIFFERENCE}"
    assert cause(timing, bundles_differ=False, targets_differ=True) == f"{OTHER_TARGETS}{ONLY_TIMING}"
