"""Which fields of two reports differ, what that says about the cause, and how it is shown."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import Field
from rich.console import Console

from levit_edge.cli import diff as verb
from levit_edge.pipeline.options import DiffOptions
from levit_edge.record import Record
from levit_edge.report.cause import NO_DIFFERENCE, NOT_VISIBLE, ONLY_TIMING, OTHER_TARGETS, cause
from levit_edge.report.compare_records import LEFT_OUT, PRESENT, Leaf, leaves, report_changes
from levit_edge.report.difference import (
    BuildDifference,
    BundleDifference,
    Change,
    ConstantChange,
    OperatorChange,
    ScaleChange,
)
from levit_edge.report.difference_tables import MOST_ROWS, remarks, render_markdown, sections
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
    (change,) = report_changes(_calibrated(seed=3), _calibrated(seed=4))
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


def _calibrated(**changes: Any) -> Report:
    report = _report()
    assert report.calibration is not None
    return report.model_copy(update={"calibration": report.calibration.model_copy(update=changes)})


CAUSES = {
    "most likely cause: other weights (sha256)": _model(sha256="ef" * 32),
    "most likely cause: another variant of the model (variant); other weights (sha256)": _model(
        variant="levit-192", sha256="ef" * 32
    ),
    "most likely cause: another image size (image_size)": _model(image_size=256),
    "most likely cause: another calibration (seed, sha256)": _calibrated(seed=1, sha256="0" * 64),
    "most likely cause: calibrated on one side only (calibration)": _report().model_copy(update={"calibration": None}),
    "most likely cause: another recipe (recipe)": _report(recipe="w8a16"),
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


def _scales(count: int) -> tuple[ScaleChange, ...]:
    return tuple(
        ScaleChange(
            layer=f"blocks.{index}.proj", tensor="output", scale_before=0.5, scale_after=0.25, zero_point_before=3,
            zero_point_after=-4, ratio=0.5,
        )
        for index in range(count)
    )  # fmt: skip


def _everything(scales: int = MOST_ROWS) -> BuildDifference:
    after = _calibrated(
        sha256="0" * 64, source="/a/rather/long/path/to/the/photographs/of/a/customer/in/2026"
    ).model_copy(
        update={
            "targets": reports.report(
                onnx=reports.target(
                    size_bytes=8_900_000,
                    tool_versions={"torch": "2.13.0", "onnx": "1.24.0"},
                    accuracy=reports.accuracy(top1_pct=80.5, top1_drop_pp=0.8, top1_lost=10),
                    latency=reports.latency(speedup=1.5, speedup_low=1.4, speedup_high=1.6),
                    devices={reports.DEVICE: DeviceFigures(instructions=reports.instructions(built=60_000_000))},
                )
            ).targets
        }
    )
    before = reports.report(onnx=reports.counted(reports.instructions()))
    changes = tuple(report_changes(before, after))
    operators = (OperatorChange(name="Conv", precision="float", placement="runtime", before=3, after=5),)
    constants = (
        ConstantChange(
            layer="stem.0", constant="weight", before="int8 [4, 3]", after="int8 [4, 3]", differing_share=0.25,
            scale_ratio=1.5,
        ),
        ConstantChange(
            layer="stem.1", constant="bias", before=None, after="int32 [4]", differing_share=None, scale_ratio=None
        ),
    )  # fmt: skip
    bundle = BundleDifference(
        target="onnx", files=("model.onnx",), operators=operators, scales=_scales(scales), constants=constants,
        layers_before=("head_dist",),
    )  # fmt: skip
    return BuildDifference(
        before="release-1", after="dist", differs=True, changes=changes, targets_before=("coreml",), bundles=(bundle,),
        cause=cause(changes, bundles_differ=True, targets_differ=True),
    )  # fmt: skip


def _printed(difference: BuildDifference) -> str:
    console = Console(width=80)
    with console.capture() as captured:
        for part in verb.show(DiffOptions(before="a", after="b"), difference):  # type: ignore[arg-type]
            console.print(part)
    return captured.get()


def test_the_text_fits_into_80_columns_and_says_everything() -> None:
    text = _printed(_everything())
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(re.sub(r"[│┃]", " ", text).split())
    for part in (
        "most likely cause: another calibration (sha256); other versions (onnx)",
        "inputs", "calibration.sha256 cdcdcdcdcdcd 000000000000",
        "onnx: versions", "tool_versions.onnx 1.23.2 1.24.0",
        "size_bytes 8,800,000 8,900,000 +100,000 bytes (+1.1 %)", "accuracy.top1_pct 81.00 80.50 -0.50 pp",
        "onnx: timing, never twice the same", "latency.speedup 2 1.5 -0.5",
        f"onnx: figures on {reports.DEVICE}", "instructions.instructions 61.2 M 60.0 M -1.2 M instructions",
        "Conv float runtime 3 5", "blocks.19.proj output 0.5 0.25 0.5x 3 -> -4", "stem.0 weight 25.00 % 1.5x",
        "stem.1 bias - -> int32 [4] -",
        "only in release-1: coreml", "onnx: other bytes in model.onnx", "onnx: layers only in release-1: head_dist",
    ):  # fmt: skip
        assert part in words, part
    assert "more" not in words


def test_after_twenty_rows_the_rest_is_counted() -> None:
    text = _printed(_everything(scales=MOST_ROWS + 3))
    assert "and 3 more" in text and "blocks.19.proj" in text and "blocks.20.proj" not in text


def test_markdown_has_the_same_tables_as_the_terminal() -> None:
    difference = _everything(scales=MOST_ROWS + 3)
    page = render_markdown(difference)
    assert page.startswith(f"# release-1 and dist\n\n{difference.cause}\n\n## inputs\n\n|  | before | after |\n")
    for section in sections(difference):
        assert f"\n## {section.title}\n\n| {' | '.join(section.columns)} |\n|---|" in page
        for row in section.rows:
            assert f"\n| {' | '.join(row)} |\n" in page
    assert "\n\nand 3 more\n" in page and "\n\n\n" not in page
    assert all(f"\n\n{remark}\n" in page for remark in remarks(difference))


def test_a_change_below_the_last_digit_shown_is_not_hidden() -> None:
    change = Change(field="x_pct", kind="figure", before=80.001, after=80.002, change=0.001, unit="pp")
    difference = BuildDifference(before="a", after="b", differs=True, cause="", changes=(change,))
    (section,) = sections(difference)
    assert section.rows == (("x_pct", "80.001", "80.002", "+0.00 pp"),)
