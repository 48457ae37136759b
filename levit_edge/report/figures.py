"""What a reader compares, as text: one table of figures in reading order, for report.md and for the terminal alike.

A figure that was not measured reads "not run". A new figure is one row of :data:`FIGURES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from levit_edge.metrics.accuracy import Accuracy
from levit_edge.metrics.agreement import Agreement
from levit_edge.metrics.closeness import Closeness
from levit_edge.metrics.instructions import Instructions
from levit_edge.report.answers import Inspection
from levit_edge.report.gate_result import GateResult
from levit_edge.report.schema import (
    Delegation,
    DeviceFigures,
    EvaluationSet,
    Latency,
    Milliseconds,
    Model,
    Report,
    TargetReport,
)
from levit_edge.wording import listed

NOT_RUN = "not run"
NO_LABELS = "no labels"
_LONGEST_TEXT = 40
LONGEST_LIST = 6
IDENTICAL = "identical"
VERDICT = "verdict"
ABSENT = "-"

Part = TypeVar("Part")
Rows = Sequence[tuple[str, Callable[[Part], str]]]
"""(label, how to show it) of one part of a report, in reading order."""


def text_rows(rows: Rows[Part], part: Part | None) -> list[tuple[str, str]]:
    """(label, text) of one part of a report, such as ``text_rows(ACCURACY, accuracy)``."""
    return [(label, NOT_RUN if part is None else show(part)) for label, show in rows]


def closeness_text(found: Closeness) -> str:
    """Agreement and SQNR in one text."""
    return f"{found.agreement_pct:.2f} % ({decibels_text(found.sqnr_db)})"


def model_text(model: Model) -> str:
    """The variant, and where its weights come from."""
    return f"{model.variant} ({'random weights' if model.random_weights else model.source})"


def evaluation_text(evaluation: EvaluationSet) -> str:
    """The images that measured the accuracy: how many, of what, and the first digits of their SHA-256."""
    return f"Evaluated on {evaluation.n} images of {evaluation.source} (sha256 {evaluation.sha256[:12]})"


def verdict_text(target: TargetReport) -> str:
    """The verdict, and how many gates do not apply."""
    outside = sum(gate.outcome == "not applicable" for gate in target.gates)
    return f"{target.verdict} ({outside} not applicable)" if outside else target.verdict


def decibels_text(sqnr_db: float | None) -> str:
    """A ratio as a report stores it; None is infinite."""
    return IDENTICAL if sqnr_db is None else f"{sqnr_db:.1f} dB"


def _labelled(value: float | None, form: str) -> str:
    return NO_LABELS if value is None else form.format(value)


def _top1_change(accuracy: Accuracy) -> str:
    if accuracy.top1_fp32_pct is None or accuracy.top1_pct is None:
        return NO_LABELS
    return f"{accuracy.top1_fp32_pct:.2f} to {accuracy.top1_pct:.2f} %"


def _milliseconds(times: Milliseconds) -> str:
    return f"{times.median:.2f} ms ({times.p90:.2f})"


def _millions(instructions: int) -> str:
    return f"{instructions / 1e6:.1f} M"


def _count(number: int | None) -> str:
    return ABSENT if number is None else str(number)


ACCURACY: Rows[Accuracy] = (
    ("accuracy from", lambda a: a.source),
    ("images", lambda a: f"{a.n}, {a.n_labelled} with a known class"),
    ("top-1, float", lambda a: _labelled(a.top1_fp32_pct, "{:.2f} %")),
    ("top-1", lambda a: _labelled(a.top1_pct, "{:.2f} %")),
    ("top-1 drop", lambda a: _labelled(a.top1_drop_pp, "{:+.2f} pp")),
    ("top-5", lambda a: _labelled(a.top5_pct, "{:.2f} %")),
    ("agreement with float", lambda a: f"{a.agreement_pct:.2f} %"),
    ("SQNR", lambda a: "no finite value" if a.sqnr_db is None else f"{a.sqnr_db:.1f} dB"),
)
LATENCY: Rows[Latency] = (
    ("latency from", lambda t: f"{t.runtime}, {t.threads} thread{'s' if t.threads > 1 else ''}, {t.runs} runs"),
    ("float, median (p90)", lambda t: _milliseconds(t.fp32_ms)),
    ("built, median (p90)", lambda t: _milliseconds(t.int8_ms)),
    ("speedup (95 % interval)", lambda t: f"{t.speedup:.2f}x ({t.speedup_low:.2f} to {t.speedup_high:.2f})"),
)
INSTRUCTIONS: Rows[Instructions] = (
    ("instructions from", lambda c: f"{c.runtime}, {c.runs} inferences"),
    ("float, instructions", lambda c: _millions(c.fp32_instructions)),
    ("built, instructions", lambda c: _millions(c.instructions)),
    ("ratio (spread)", lambda c: f"{c.ratio:.2f}x ({c.spread_pct:.2f} %)"),
)
DELEGATION: Rows[Delegation | Inspection] = (
    ("delegates", lambda d: _count(d.delegates)),
    ("operators, int8 / float / fallback", lambda d: f"{d.int8_ops} / {d.float_ops} / {_count(d.fallback_ops)}"),
)
_DEVICE_ACCURACY: Rows[Accuracy] = (
    ("accuracy from", lambda a: f"{a.runtime}, {a.n} images"),
    ("top-1, float to built", _top1_change),
    ("agreement with float", lambda a: f"{a.agreement_pct:.2f} %"),
)
_DEVICE_LOCAL: Rows[Closeness] = (("agreement with this host", closeness_text),)


@dataclass(frozen=True)
class Figure:
    """One row: ``show(target, report)`` gives the text of one target.

    A row with ``on_request`` is left out when none of the targets has the figure.
    """

    label: str
    show: Callable[[TargetReport, Report], str]
    on_request: bool = False


def _here(rows: Rows[Part], part: Callable[[TargetReport], Part | None]) -> list[Figure]:
    def figure(label: str, show: Callable[[Part], str]) -> Figure:
        def text(target: TargetReport, _report: Report) -> str:
            found = part(target)
            return NOT_RUN if found is None else show(found)

        return Figure(label, text)

    return [figure(label, show) for label, show in rows]


def _on_devices(rows: Rows[Part], part: Callable[[DeviceFigures], Part | None]) -> list[Figure]:
    def figure(label: str, show: Callable[[Part], str]) -> Figure:
        def text(target: TargetReport, _report: Report) -> str:
            found = [part(device) for device in target.devices.values()]
            return "; ".join(show(one) for one in found if one is not None) or NOT_RUN

        return Figure(f"device {label}", text, on_request=True)

    return [figure(label, show) for label, show in rows]


def _against_program(target: TargetReport, report: Report) -> str:
    """How close the target's file on this host comes to its quantized program."""
    entries = [] if report.agreement is None else report.agreement.against_program()
    found = [(pct, sqnr_db) for participant, pct, sqnr_db in entries if participant.target == target.bundle]
    return f"{found[0][0]:.2f} % ({decibels_text(found[0][1])})" if found else NOT_RUN


def _kept_float(target: TargetReport) -> str:
    """Roles and tensors that the recipe keeps float where the target would store them as int8."""
    names = target.recipe_settings.get("keep_float")
    return listed([str(name) for name in names], LONGEST_LIST) if isinstance(names, list) and names else ABSENT


FIGURES: tuple[Figure, ...] = (
    Figure("model", lambda t, _: f"{t.bundle}/{t.model_file} ({t.recipe})"),
    Figure("kept float", lambda t, _: _kept_float(t)),
    Figure("size, float to built", lambda t, _: f"{t.fp32_size_bytes / 1e6:.2f} to {t.size_bytes / 1e6:.2f} MB"),
    Figure("size ratio", lambda t, _: f"{t.size_ratio:.3f}"),
    *_here(ACCURACY, lambda target: target.accuracy),
    Figure("agreement with its program", _against_program),
    *_here(LATENCY, lambda target: target.latency),
    *_on_devices(_DEVICE_ACCURACY, lambda device: device.accuracy),
    *_on_devices(_DEVICE_LOCAL, lambda device: device.local),
    *_on_devices(LATENCY, lambda device: device.latency),
    *_on_devices(INSTRUCTIONS, lambda device: device.instructions),
    *_here(DELEGATION, lambda target: target.delegation),
    Figure(VERDICT, lambda target, _: verdict_text(target)),
)

READING_ORDER = (
    "fp32_size_bytes",
    "size_bytes",
    "size_ratio",
    "accuracy",
    "agreement_with_program",
    "latency",
    "local",
    "instructions",
    "delegation",
)
"""The parts of a target's report, and of a device's, in the order in which :data:`FIGURES` shows them."""


def figure_table(report: Report) -> list[tuple[str, ...]]:
    """One row for each figure: its label, then its text for every target of ``report`` in order."""
    rows = []
    for figure in FIGURES:
        texts = [figure.show(target, report) for target in report.targets.values()]
        if not figure.on_request or set(texts) != {NOT_RUN}:
            rows.append((figure.label, *texts))
    return rows


GATE_COLUMNS = ("gate", "value", "limit", "result", "note")


def gate_row(gate: GateResult) -> tuple[str, str, str, str, str]:
    """The texts of one gate, below :data:`GATE_COLUMNS`."""
    return gate_name(gate), gate_value(gate), _number(gate.limit), gate.outcome, gate.note


def gate_name(gate: GateResult) -> str:
    """The name, with the device where the figure is from one."""
    return gate.name if gate.device is None else f"{gate.name} {gate.device}"


def gate_value(gate: GateResult) -> str:
    """The value of a gate, with its interval where it has one: ``0.400 (-0.22 to 1.06)``."""
    interval = "" if gate.low is None or gate.high is None else f" ({_number(gate.low)} to {_number(gate.high)})"
    return f"{_number(gate.value)}{interval}"


def gate_line(gate: GateResult) -> str:
    """One gate in one line of prose."""
    note = f" ({gate.note})" if gate.note else ""
    return f"{gate.name} is {gate_value(gate)}, limit {_number(gate.limit)}{note}"


def _number(value: float | str | None) -> str:
    """Numbers with as many digits as a comparison needs, texts cut to what tells them apart."""
    if value is None:
        return NOT_RUN
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_TEXT else f"{value[:_LONGEST_TEXT]}..."
    return f"{value:.0f}" if float(value).is_integer() and abs(value) >= 10 else f"{value:.3f}".rstrip("0").rstrip(".")


KERNEL_COLUMNS = ("library", "function", "kind", "instructions", "share")


def kernel_rows(counted: Instructions) -> list[tuple[str, str, str, str, str]]:
    """The functions that ran, largest first, below :data:`KERNEL_COLUMNS`."""
    return [(k.library, k.function, k.kind, _millions(k.instructions), f"{k.share_pct:.1f} %") for k in counted.kernels]


def agreement_tables(found: Agreement) -> dict[str, list[list[str]]]:
    """Two tables by title, each with its header as the first row; a row is the reference of every column."""
    names = [participant.name for participant in found.participants]
    agreed = [[f"{value:.2f}" for value in row] for row in found.agreement_pct]
    decibels = [[IDENTICAL if value is None else f"{value:.1f}" for value in row] for row in found.sqnr_db]
    for index in range(len(names)):
        agreed[index][index] = decibels[index][index] = ABSENT
    return {
        title: [["reference", *names], *([name, *row] for name, row in zip(names, rows, strict=True))]
        for title, rows in (("same best class, %", agreed), ("SQNR, dB", decibels))
    }
