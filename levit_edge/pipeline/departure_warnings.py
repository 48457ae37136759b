"""Who departs from its own quantized program: warnings of a build, from the table of all that compute the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from levit_edge.gates.intervals import share
from levit_edge.metrics.agreement import Agreement, Participant
from levit_edge.report.schema import DeviceFigures

SAME_ANSWERS_PCT = 99.0


def departures(
    table: Agreement, on_device: Mapping[str, DeviceFigures], *, random_weights: bool = False
) -> Iterator[str]:
    """One line for each participant that departs from its own quantized program; none for ``random_weights``.

    It departs when more than one answer in a hundred differs, and chance does not explain how many do (exact binomial
    test, 5 %): a runtime that rounds some ties the other way, or computes in float16, does not.
    ``on_device`` are the figures of another device, by target.
    """
    if random_weights:  # the answers are near ties everywhere, and any rounding turns them over
        return
    for participant, agreed_pct, sqnr_db in table.against_program():
        if share(round(agreed_pct * table.n / 100), table.n).high < SAME_ANSWERS_PCT:
            yield (
                f"{participant.name} departs from its own quantized program: {_figures(agreed_pct, sqnr_db)} "
                f"on {table.n} images; {_advice(participant, table, on_device)}"
            )


def _advice(participant: Participant, table: Agreement, on_device: Mapping[str, DeviceFigures]) -> str:
    """Where to look next: ``--diverge`` runs the file on this host, so it does not show what a device does."""
    device = on_device.get(participant.target or "")
    there = None if device is None or device.accuracy is None else device.accuracy.runtime
    if device is None or device.local is None or participant.runtime != there:
        return f"`levit-edge inspect OUT/{participant.target} --diverge IMAGE` names the layer"
    here, agreed_pct, sqnr_db = next(
        entry
        for entry in table.against_program()
        if (entry[0].target, entry[0].runtime) == (participant.target, device.local.runtime)
    )
    return f"compare {here.name}, the same file on this host: {_figures(agreed_pct, sqnr_db)} with that program"


def _figures(agreed_pct: float, sqnr_db: float | None) -> str:
    return f"{agreed_pct:.2f} % agreement{'' if sqnr_db is None else f' and {sqnr_db:.1f} dB'}"
