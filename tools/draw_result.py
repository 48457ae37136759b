"""Draw the picture of the README from the report of a build.

    levit-edge build --out dist && python -m tools.draw_result dist/report.json docs/result.svg

It needs matplotlib, which is in the dependency group ``dev``. The ending of the output file chooses the format. The
same report, with the same matplotlib, gives the same bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from levit_edge.report.schema import Report, TargetReport, load_report

FLOAT_COLOUR, BUILT_COLOUR = "#999999", "#0072b2"  # Okabe and Ito (2008): told apart by all kinds of colour vision
TEXT_COLOUR, MUTED_COLOUR = "#1f2328", "#59636e"
WIDTH_IN, ROW_IN, FRAME_IN = 8.33, 0.8, 1.55  # 8.33 inches are 800 pixels in a browser
BAR = 0.34  # of a row; a row has two bars
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine draws the same letters
    "font.size": 9.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "levit-edge",
    "text.color": TEXT_COLOUR,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
}


@dataclass(frozen=True)
class Pair:
    """One figure of the float reference and of the built model. ``built_text`` stands at the end of its bar."""

    reference: float
    built: float
    reference_text: str
    built_text: str


def size_pair(target: TargetReport) -> Pair:
    """Megabytes of the model file, and its share of the float file."""
    reference, built = target.fp32_size_bytes / 1e6, target.size_bytes / 1e6
    return Pair(reference, built, f"{reference:.1f}", f"{built:.1f} ({100 * target.size_ratio:.0f} %)")


def top1_pair(target: TargetReport) -> Pair | None:
    """Top-1 in percent; None where no image has a known class."""
    found = target.accuracy
    if found is None or found.top1_fp32_pct is None or found.top1_pct is None:
        return None
    return Pair(found.top1_fp32_pct, found.top1_pct, f"{found.top1_fp32_pct:.1f}", f"{found.top1_pct:.1f}")


def latency_pair(target: TargetReport) -> Pair | None:
    """Milliseconds of one image, and the speedup; None where nothing was timed."""
    found = target.latency
    if found is None:
        return None
    reference, built = found.fp32_ms.median, found.int8_ms.median
    return Pair(reference, built, f"{reference:.1f}", f"{built:.1f} ({found.speedup:.2f}x)")


def draw(report: Report) -> Figure:
    """Three panels side by side, one row per target. ValueError for a report without targets."""
    if not report.targets:
        raise ValueError("the report has no target to draw")
    targets = list(report.targets.values())
    figure = Figure(figsize=(WIDTH_IN, FRAME_IN + ROW_IN * len(targets)), facecolor="white")
    recipes = ", ".join(dict.fromkeys(target.recipe for target in targets))
    axes = figure.subplots(1, 3, sharey=True, width_ratios=(1.05, 0.9, 1.05))
    height = figure.get_figheight()
    figure.subplots_adjust(left=0.205, right=0.99, top=1 - 1.05 / height, bottom=0.4 / height, wspace=0.1)
    _panel(axes[0], "Model file, MB (of float)", targets, size_pair, "not built", room=1.35)
    _panel(axes[1], "Top-1 accuracy, %", targets, top1_pair, "no labels", room=1.25)
    _panel(axes[2], "Latency, ms (speedup)", targets, latency_pair, "not timed here", room=1.45)
    _name_rows(axes[0], targets)
    figure.text(0.01, 1 - 0.22 / height, _title(report, recipes), fontsize=12, fontweight="bold", va="center")
    _legend(figure, recipes, height)
    figure.text(0.01, 0.16 / height, _source(report), fontsize=9, color=MUTED_COLOUR, va="center")
    return figure


def _panel(
    axes: Axes,
    title: str,
    targets: Sequence[TargetReport],
    pair_of: Callable[[TargetReport], Pair | None],
    absent: str,
    *,
    room: float,
) -> None:
    """Two bars per target from 0 on; ``room`` is how far beyond the longest bar the panel reaches, for the text."""
    pairs = [pair_of(target) for target in targets]
    longest = max((max(pair.reference, pair.built) for pair in pairs if pair), default=1.0)
    for row, pair in enumerate(pairs):
        if pair is None:
            axes.text(longest * 0.025, row, absent, va="center", color=MUTED_COLOUR, style="italic")
            continue
        bars = (
            (row - BAR / 2, pair.reference, pair.reference_text, FLOAT_COLOUR, MUTED_COLOUR),
            (row + BAR / 2, pair.built, pair.built_text, BUILT_COLOUR, TEXT_COLOUR),
        )
        for place, value, text, colour, text_colour in bars:
            axes.barh(place, value, height=BAR * 0.92, color=colour)
            axes.text(value + longest * 0.025, place, text, va="center", color=text_colour)
    axes.set_title(title, fontweight="bold")
    axes.set(xlim=(0, longest * room), ylim=(len(targets) - 0.5, -0.5), xticks=[], yticks=[])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color(MUTED_COLOUR)


def _name_rows(axes: Axes, targets: Sequence[TargetReport]) -> None:
    """Left of the first panel: the target, what computed its figures, and whether that was its own runtime."""
    left = axes.get_yaxis_transform()
    for row, target in enumerate(targets):
        found = target.accuracy
        lines = (
            ["not measured", ""] if found is None else [found.runtime, "executed" if found.executed else "simulated"]
        )
        axes.text(-0.06, row - 0.26, target.bundle, transform=left, ha="right", va="center", fontweight="bold")
        for place, line in zip((0.02, 0.28), lines, strict=True):
            axes.text(-0.06, row + place, line, transform=left, ha="right", va="center", fontsize=9, color=MUTED_COLOUR)


def _legend(figure: Figure, recipes: str, height: float) -> None:
    figure.legend(
        handles=[
            Patch(color=FLOAT_COLOUR, label="float reference"),
            Patch(color=BUILT_COLOUR, label=recipes),
        ],
        loc="center left",
        bbox_to_anchor=(0.0, 1 - 0.5 / height),
        ncols=2,
        frameon=False,
        handlelength=1.1,
        handleheight=1.0,
        columnspacing=1.2,
    )


def _title(report: Report, recipes: str) -> str:
    seen = [target.accuracy.n for target in report.targets.values() if target.accuracy is not None]
    on = f", {max(seen):,} images of {report.agreement.images}" if seen and report.agreement else ""
    return f"{report.model.variant}, {recipes} against float{on}"


def _source(report: Report) -> str:
    host = report.host
    timed = [target.latency for target in report.targets.values() if target.latency is not None]
    threads = f", {timed[0].threads} thread{'s' if timed[0].threads > 1 else ''}, batch 1, median" if timed else ""
    return f"Measured on {host.system} {host.machine}, {' '.join(host.processor.split())}{threads}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Draw float against quantized for every target of a report.")
    parser.add_argument("report", type=Path, metavar="REPORT", help="report.json of a build")
    parser.add_argument("out", type=Path, metavar="OUT", help="picture to write, such as docs/result.svg")
    chosen = parser.parse_args(arguments)
    with mpl.rc_context(STYLE):
        figure = draw(load_report(chosen.report))
        timeless = {"Date": None} if chosen.out.suffix == ".svg" else None
        figure.savefig(chosen.out, dpi=96, metadata=timeless)


if __name__ == "__main__":
    main()
