"""The tensors that cost most, as a picture: bars of what keeping each of them float would gain."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from levit_edge.bundle.files import check_folder_of, write_bytes
from levit_edge.errors import InputError, MissingComponentError
from levit_edge.report.sensitivity import SHOWN, SensitivityReport, TensorNoise, decibels_text

COLOURS = {"activation": "#0072b2", "weight": "#d55e00"}  # Okabe and Ito (2008): all kinds of colour vision tell them
WIDTH_IN, BAR_IN, FRAME_IN = 8.0, 0.22, 1.1


def check_picture(path: Path) -> None:
    """InputError for a folder that does not exist or an ending that matplotlib does not draw.

    Raises MissingComponentError where matplotlib is not installed.
    """
    check_folder_of(path)
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ModuleNotFoundError:
        raise MissingComponentError("matplotlib", "pip install 'levit-edge[picture]'") from None
    formats = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix.removeprefix(".") not in formats:
        raise InputError(f"{path}: no picture has this ending; valid: {', '.join(formats)}")


def draw(report: SensitivityReport, path: Path) -> None:
    """Write ``path``, which :func:`check_picture` takes: one row of bars for each target."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = {name: found.tensors[:SHOWN] for name, found in report.targets.items()}
    height = sum(FRAME_IN + BAR_IN * len(tensors) for tensors in rows.values())
    drawn, kind = BytesIO(), path.suffix.removeprefix(".")
    with mpl.rc_context({"font.size": 9, "svg.fonttype": "path", "svg.hashsalt": "levit-edge"}):
        figure = Figure(figsize=(WIDTH_IN, height), layout="constrained")
        axes = figure.subplots(len(rows), squeeze=False, height_ratios=[len(tensors) for tensors in rows.values()])
        for axis, (name, tensors) in zip(axes[:, 0], rows.items(), strict=True):
            _bars(axis, tensors)
            axis.set_title(f"{name}, {report.recipe}: {decibels_text(report.targets[name].sqnr_db)}", loc="left")
        axes[-1, 0].set_xlabel("gain in SQNR of the logits where this tensor stays float (dB)")
        figure.savefig(drawn, format=kind, metadata={"Date": None} if kind == "svg" else None)
    write_bytes(path, drawn.getvalue())


def _bars(axis: Any, tensors: Sequence[TensorNoise]) -> None:
    names = [f"{row.layer} {row.tensor}" for row in tensors]
    axis.barh(names, [row.gain_db or 0.0 for row in tensors], color=[COLOURS[row.kind] for row in tensors])
    axis.invert_yaxis()
    axis.axvline(0, color="#59636e", linewidth=0.8)
    axis.spines[["top", "right"]].set_visible(False)
