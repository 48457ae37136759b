"""Writes the comparison of accuracy: one JSON file and a Markdown page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.accuracy_rows import AccuracyRow, Difference
from benchmarks.host import Host, host_lines
from benchmarks.results_files import MB, missing, write
from levit_edge.gates.intervals import Interval
from levit_edge.metrics.sqnr import finite_or_none
from levit_edge.report.schema import EvaluationSet

HEAD = (
    "model | top-1 % | top-1 drop, points | agreement % | SQNR dB | ours more, dB | intervals of SQNR"
    " | runtime | size MB"
)


def write_json(
    path: Path, host: Host, images: EvaluationSet, rows: Sequence[AccuracyRow], skipped: Mapping[str, str]
) -> None:
    """Everything that was measured, in one file."""
    document = asdict(host) | {
        "evaluation": images.model_dump(),
        "entries": [_record(row) for row in rows],
        "skipped": dict(skipped),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, document)


def _record(row: AccuracyRow) -> dict[str, object]:
    entry = row.entry
    return {
        "name": entry.name,
        "family": entry.family,
        "how": entry.how,
        "size_bytes": entry.size_bytes,
        "accuracy": row.accuracy.model_dump(),
        "top1_drop_pp_95": _pair(row.drop),
        "agreement_pct_95": _pair(row.agreement),
        "sqnr_db_95": _pair(row.sqnr),
        "against_ours": _against(row.difference),
    }


def _against(found: Difference | None) -> dict[str, object] | None:
    if found is None:
        return None
    return {
        "name": found.ours,
        "ours_more_db": finite_or_none(found.better_db),
        "ours_more_db_95": _pair(found.bounds),
        "sqnr_intervals_overlap": not found.apart,
    }


def _pair(interval: Interval | None) -> list[float | None] | None:
    """Both ends; None for one that is infinite."""
    return None if interval is None else [finite_or_none(interval.low), finite_or_none(interval.high)]


def markdown(host: Host, images: EvaluationSet, rows: Sequence[AccuracyRow], skipped: Mapping[str, str]) -> str:
    """The page: how it was measured, the table, what each row is, what is missing."""
    parts = [
        "# Accuracy beside other recipes",
        "int8 models of the embedded demo (LeViT-128S, 10 classes, 224x224), judged by one process:",
        f"```\nlevit-edge build --out dist\n{host.command}\n```",
        "\n".join([*host_lines(host), *_method(images, rows)]),
        "\n".join(_table(rows)),
        "\n".join(["## How each model was made", "", *(f"- `{row.entry.name}`: {row.entry.how}." for row in rows)]),
        "\n".join(missing(skipped)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _method(images: EvaluationSet, rows: Sequence[AccuracyRow]) -> list[str]:
    before = rows[0].accuracy.top1_fp32_pct
    labelled = "" if before is None else f", which is right on {before:.2f} % of them"
    return [
        (
            f"- Images: {images.n:,} of {images.source}; no recipe calibrated on any of them. Every figure is against"
            f" the published float model in torch{labelled}."
        ),
        "- Every recipe was given the same checkpoint, the same calibration images and the same preprocessing.",
        (
            "- Intervals hold with 95 % confidence, both ends together: Tango's for the drop (paired), Clopper and"
            " Pearson's for the agreement, that of a ratio of sums over images for the SQNR."
        ),
        (
            "- `ours more` is the SQNR of our model for the same runtime minus that of the row. Its interval is paired,"
            " image by image; that of two figures may overlap all the same, and the next column says whether it does."
            " For OpenVINO, ours is the one for ONNX Runtime."
        ),
        (
            "- `simulated`: a reference interpreter computed the model file, operator by operator; Core ML itself runs"
            " only on Apple's systems."
        ),
    ]


def _table(rows: Sequence[AccuracyRow]) -> list[str]:
    columns = HEAD.count("|") + 1
    rule = "|".join(["---", *["---:"] * 5, "---", "---", "---:"])
    assert rule.count("|") + 1 == columns
    return [f"| {HEAD} |", f"|{rule}|", *(f"| {' | '.join(_cells(row))} |" for row in rows)]


def _cells(row: AccuracyRow) -> list[str]:
    entry, accuracy, found = row.entry, row.accuracy, row.difference
    return [
        f"{entry.title} (`{entry.name}`)",
        "-" if accuracy.top1_pct is None else f"{accuracy.top1_pct:.2f}",
        _figure(accuracy.top1_drop_pp, row.drop, 2),
        _figure(accuracy.agreement_pct, row.agreement, 2),
        _figure(accuracy.sqnr_db, row.sqnr, 1),
        "-" if found is None else _figure(found.better_db, found.bounds, 1),
        "-" if found is None else "apart" if found.apart else "overlap",
        accuracy.source,
        f"{entry.size_bytes / MB:.2f}",
    ]


def _figure(value: float | None, interval: Interval | None, digits: int) -> str:
    if value is None or interval is None:
        return "-"
    return f"{value:.{digits}f} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"
