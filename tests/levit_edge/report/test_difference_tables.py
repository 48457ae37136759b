"""How the difference of two builds is shown."""

from __future__ import annotations

import re

from rich.console import Console

from levit_edge.cli import diff as verb
from levit_edge.pipeline.options import DiffOptions
from levit_edge.report.cause import cause
from levit_edge.report.compare_records import report_changes
from levit_edge.report.difference import (
    BuildDifference,
    BundleDifference,
    Change,
    ConstantChange,
    OperatorChange,
    ScaleChange,
)
from levit_edge.report.difference_tables import MOST_ROWS, remarks, render_markdown, sections
from levit_edge.report.schema import DeviceFigures
from tests.levit_edge.report import reports


def _scales(count: int) -> tuple[ScaleChange, ...]:
    return tuple(
        ScaleChange(
            layer=f"blocks.{index}.proj", tensor="output", scale_before=0.5, scale_after=0.25, zero_point_before=3,
            zero_point_after=-4, ratio=0.5,
        )
        for index in range(count)
    )  # fmt: skip


def _everything(scales: int = MOST_ROWS) -> BuildDifference:
    after = reports.calibrated(
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
