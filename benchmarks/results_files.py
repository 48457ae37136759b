"""Writes the measurements: one JSON file for each entry, one for the run, and a Markdown page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.host import Host, host_lines
from benchmarks.measure import OURS, Row, float_reference
from levit_edge.metrics.latency import Speedup

MB = 1e6


def write_json(folder: Path, host: Host, rows: Sequence[Row], skipped: Mapping[str, str]) -> None:
    """``<name>.json`` for every row and ``run.json``; files of earlier runs are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.json"):
        old.unlink()
    for row in rows:
        write(folder / f"{row.entry.name}.json", _record(row))
    run = asdict(host) | {"entries": [row.entry.name for row in rows], "skipped": dict(skipped)}
    write(folder / "run.json", run)


def write(path: Path, document: object) -> None:
    """``document`` as JSON."""
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _record(row: Row) -> dict[str, object]:
    entry = row.entry
    return {
        "name": entry.name,
        "family": entry.family,
        "precision": entry.precision,
        "how": entry.how,
        "size_bytes": entry.size_bytes,
        "delegates": entry.delegates,
        "accuracy": row.accuracy.model_dump(),
        "latency": {
            "threads": 1,
            "median_ms": row.latency.median_ms,
            "p90_ms": row.latency.p90_ms,
            "samples_ms": [round(sample, 4) for sample in row.latency.samples],
        },
        "speed_against": {name: asdict(speedup) for name, speedup in row.speed_against.items()},
    }


def markdown(host: Host, rows: Sequence[Row], skipped: Mapping[str, str]) -> str:
    """The page: how it was measured, the table, what each row is, what is missing."""
    accuracy, runs = rows[0].accuracy, len(rows[0].latency.samples)
    parts = [
        "# levit-edge beside other recipes",
        "The embedded demo (LeViT-128S, 10 classes, 224x224) and its own images, from one process:",
        f"```\nlevit-edge build --target onnx --target executorch --out dist\n{host.command}\n```",
        *host_lines(host),
        (
            f"- Accuracy: {accuracy.n} images that no recipe calibrated on; agreement and SQNR are against the"
            " published float model in torch. Every recipe was given the same calibration images and the same"
            " preprocessing."
        ),
        (
            f"- Latency: batch 1, one thread, median of {runs} rounds. In each round every model runs once, so each"
            " model starts with caches that the others have filled; a model that runs alone is faster. Compare the"
            " ratios, not the milliseconds."
        ),
        "- Speed is how many times faster (below 1: slower), the median of the rounds' ratios with its 95 % interval.",
        "\n".join(_table(rows)),
        "\n".join(_meanings(rows)),
        "\n".join(missing(skipped)),
    ]
    return "\n\n".join(part for part in parts if part).replace(".\n\n- ", ".\n- ") + "\n"


def _table(rows: Sequence[Row]) -> list[str]:
    head = (
        "model | precision | top-1 % | agreement % | SQNR dB | median ms | speed against the runtime's float"
        " | speed against ours, ONNX Runtime | speed against ours, ExecuTorch | size MB | delegates"
    )
    return [f"| {head} |", "|---|---|" + "---:|" * 9, *(f"| {' | '.join(_cells(row))} |" for row in rows)]


def _cells(row: Row) -> list[str]:
    entry, accuracy = row.entry, row.accuracy
    return [
        f"{entry.title} (`{entry.name}`)",
        entry.precision,
        "-" if accuracy.top1_pct is None else f"{accuracy.top1_pct:.1f}",
        f"{accuracy.agreement_pct:.1f}",
        "-" if accuracy.sqnr_db is None else f"{accuracy.sqnr_db:.1f}",
        f"{row.latency.median_ms:.2f}",
        *(_speed(row.speed_against.get(name)) for name in (float_reference(entry), *OURS)),
        f"{entry.size_bytes / MB:.2f}",
        "-" if entry.delegates is None else str(entry.delegates),
    ]


def _speed(speedup: Speedup | None) -> str:
    return "-" if speedup is None else f"{speedup.median:.2f} ({speedup.low:.2f} to {speedup.high:.2f})"


def _meanings(rows: Sequence[Row]) -> list[str]:
    return ["## How each model was made", "", *(f"- `{row.entry.name}`: {row.entry.how}." for row in rows)]


def missing(skipped: Mapping[str, str]) -> list[str]:
    """The lines on what was left out; none where nothing was."""
    if not skipped:
        return []
    return ["## Not run", "", *(f"- {name}: {reason}." for name, reason in skipped.items())]
