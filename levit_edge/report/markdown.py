"""A report for people: ``report.md`` and the table on the terminal. What nobody measured reads "not run"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.table import Table

from levit_edge.metrics.accuracy import Accuracy
from levit_edge.metrics.agreement import Agreement, Closeness
from levit_edge.metrics.instructions import ArmInstructions
from levit_edge.report.schema import Delegation, DeviceAccuracy, GateResult, Latency, Milliseconds, Report, TargetReport

NOT_RUN = "not run"
NO_LABELS = "no labels"
SKIPPED = "skipped"
IDENTICAL = "identical"


def _labelled(value: float | None, form: str) -> str:
    return NO_LABELS if value is None else form.format(value)


def _top1(accuracy: Accuracy) -> str:
    if accuracy.top1_fp32_pct is None or accuracy.top1_pct is None:
        return NO_LABELS
    return f"{accuracy.top1_fp32_pct:.2f} to {accuracy.top1_pct:.2f} %"


def millions(instructions: int) -> str:
    """A count of instructions for people."""
    return f"{instructions / 1e6:.1f} M"


def closeness_text(found: Closeness) -> str:
    """Agreement and SQNR in one."""
    return f"{found.agreement_pct:.2f} % ({_decibels(found.sqnr_db)})"


def _decibels(sqnr_db: float | None) -> str:
    return IDENTICAL if sqnr_db is None else f"{sqnr_db:.1f} dB"


def _milliseconds(times: Milliseconds) -> str:
    return f"{times.median:.2f} ms ({times.p90:.2f})"


_ACCURACY: Mapping[str, Callable[[Accuracy], str]] = {
    "accuracy from": lambda a: f"{a.runtime}, {'executed' if a.executed else 'simulated'}",
    "images": lambda a: f"{a.n}, {a.n_labelled} with a known class",
    "top-1, float": lambda a: _labelled(a.top1_fp32_pct, "{:.2f} %"),
    "top-1": lambda a: _labelled(a.top1_pct, "{:.2f} %"),
    "top-1 drop": lambda a: _labelled(a.top1_drop_pp, "{:+.2f} pp"),
    "top-5": lambda a: _labelled(a.top5_pct, "{:.2f} %"),
    "agreement with float": lambda a: f"{a.agreement_pct:.2f} %",
    "SQNR": lambda a: "no finite value" if a.sqnr_db is None else f"{a.sqnr_db:.1f} dB",
}
_LATENCY: Mapping[str, Callable[[Latency], str]] = {
    "latency from": lambda t: f"{t.runtime}, {t.threads} thread{'s' if t.threads > 1 else ''}, {t.runs} runs",
    "float, median (p90)": lambda t: _milliseconds(t.fp32_ms),
    "built, median (p90)": lambda t: _milliseconds(t.int8_ms),
    "speedup (95 % interval)": lambda t: f"{t.speedup:.2f}x ({t.speedup_low:.2f} to {t.speedup_high:.2f})",
}
_DEVICE: Mapping[str, Callable[[DeviceAccuracy], str]] = {
    "ARM accuracy from": lambda d: f"{d.accuracy.runtime}, {d.accuracy.n} images",
    "ARM top-1, float to built": lambda d: _top1(d.accuracy),
    "ARM agreement with float": lambda d: f"{d.accuracy.agreement_pct:.2f} %",
    "ARM agreement with this host": lambda d: closeness_text(d.local),
}
_INSTRUCTIONS: Mapping[str, Callable[[ArmInstructions], str]] = {
    "ARM instructions from": lambda c: f"{c.runtime}, {c.runs} inferences",
    "ARM float, instructions": lambda c: millions(c.fp32_instructions),
    "ARM built, instructions": lambda c: millions(c.instructions),
    "ARM ratio (spread)": lambda c: f"{c.ratio:.2f}x ({c.spread_pct:.2f} %)",
}
_ON_REQUEST = {*_DEVICE, *_INSTRUCTIONS}  # nothing without --device
_DELEGATION: Mapping[str, Callable[[Delegation], str]] = {
    "delegates": lambda d: "-" if d.delegates is None else str(d.delegates),
    "operators, int8 / float / fallback": lambda d: f"{d.int8_ops} / {d.float_ops} / {d.fallback_ops}",
}


def render_markdown(report: Report) -> str:
    """The text of ``report.md``."""
    environment = Environment(  # Markdown, not HTML  # noqa: S701
        loader=PackageLoader("levit_edge.report", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(cell=_cell, verdict=verdict_text)
    rows = {name: target_rows(target, report.agreement) for name, target in report.targets.items()}
    gates = {name: [gate_row(gate) for gate in target.gates] for name, target in report.targets.items()}
    counted = {name: target.latency and target.latency.arm64 for name, target in report.targets.items()}
    kernels = {name: kernel_rows(found) for name, found in counted.items() if found}
    agreement = {} if report.agreement is None else agreement_tables(report.agreement)
    return environment.get_template("report.md.j2").render(
        report=report, rows=rows, gates=gates, kernels=kernels, agreement=agreement
    )


def summary_table(report: Report) -> Table:
    """One column per target, one row per figure; those of a device that nobody asked for are left out."""
    table = Table(title=f"{report.model.variant} ({report.model.source})")
    table.add_column("")
    columns = [dict(target_rows(target, report.agreement)) for target in report.targets.values()]
    for name in report.targets:
        table.add_column(name, justify="right")
    for figure in columns[0] if columns else ():
        values = [column[figure] for column in columns]
        if figure not in _ON_REQUEST or set(values) != {NOT_RUN}:
            table.add_row(figure, *values)
    return table


def target_rows(target: TargetReport, agreement: Agreement | None = None) -> list[tuple[str, str]]:
    """``(figure, text)`` for everything a reader compares, in reading order; the same figures for every target."""
    latency = target.latency
    return [
        ("model", f"{target.bundle}/{target.model_file} ({target.recipe})"),
        ("size, float to built", f"{target.fp32_size_bytes / 1e6:.2f} to {target.size_bytes / 1e6:.2f} MB"),
        ("size ratio", f"{target.size_ratio:.3f}"),
        *accuracy_rows(target.accuracy),
        ("agreement with its program", _against_program(target.bundle, agreement)),
        *latency_rows(latency),
        *_device_rows(target.devices),
        *instruction_rows(None if latency is None else latency.arm64),
        *_rows(_DELEGATION, target.delegation),
        ("verdict", verdict_text(target)),
    ]


def accuracy_rows(accuracy: Accuracy | None) -> list[tuple[str, str]]:
    """``(figure, text)`` of the accuracy alone."""
    return _rows(_ACCURACY, accuracy)


def latency_rows(latency: Latency | None) -> list[tuple[str, str]]:
    """``(figure, text)`` of the latency alone."""
    return _rows(_LATENCY, latency)


def instruction_rows(counted: ArmInstructions | None) -> list[tuple[str, str]]:
    """``(figure, text)`` of the instructions alone."""
    return _rows(_INSTRUCTIONS, counted)


def kernel_rows(counted: ArmInstructions) -> list[tuple[str, str, str, str, str]]:
    """``(library, function, kind, instructions, share)`` of the functions that ran, largest first."""
    return [(k.library, k.function, k.kind, millions(k.instructions), f"{k.share_pct:.1f} %") for k in counted.kernels]


def agreement_tables(found: Agreement) -> dict[str, list[list[str]]]:
    """Two tables by title, each with its header as the first row; a row is the reference of every column."""
    names = [participant.name for participant in found.participants]
    agreed = [[f"{value:.2f}" for value in row] for row in found.agreement_pct]
    decibels = [[IDENTICAL if value is None else f"{value:.1f}" for value in row] for row in found.sqnr_db]
    for index in range(len(names)):
        agreed[index][index] = decibels[index][index] = "-"
    return {
        title: [["reference", *names], *([name, *row] for name, row in zip(names, rows, strict=True))]
        for title, rows in (("same best class, %", agreed), ("SQNR, dB", decibels))
    }


def _device_rows(devices: Mapping[str, DeviceAccuracy]) -> list[tuple[str, str]]:
    return [(name, "; ".join(show(found) for found in devices.values()) or NOT_RUN) for name, show in _DEVICE.items()]


def _against_program(target: str, agreement: Agreement | None) -> str:
    """How close a target's file comes to its quantized program here; a device has figures of its own."""
    if agreement is None:
        return NOT_RUN
    found = [(pct, db) for participant, pct, db in agreement.against_program() if participant.target == target]
    return f"{found[0][0]:.2f} % ({_decibels(found[0][1])})" if found else NOT_RUN


def verdict_text(target: TargetReport) -> str:
    """The verdict, and how many gates it could not look at."""
    unseen = sum(gate.passed is None for gate in target.gates)
    return f"{target.verdict} ({unseen} skipped)" if unseen and target.verdict != "not measured" else target.verdict


Entry = TypeVar("Entry")


def _rows(figures: Mapping[str, Callable[[Entry], str]], entry: Entry | None) -> list[tuple[str, str]]:
    return [(name, NOT_RUN if entry is None else show(entry)) for name, show in figures.items()]


def gate_row(gate: GateResult) -> tuple[str, str, str, str, str]:
    """``(name, value, limit, result, note)`` of a gate."""
    results = {None: SKIPPED, True: "passed", False: "failed"}
    return (
        gate.name,
        NOT_RUN if gate.value is None else f"{gate.value:.3f}",
        f"{gate.limit:.3f}",
        results[gate.passed],
        gate.note,
    )


def _cell(text: Any) -> str:
    """Text that cannot break out of its Markdown table cell."""
    return " ".join(str(text).split()).replace("|", r"\|")
