"""Instructions per inference, for devices that count them; the count does not depend on a clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from pydantic import Field

from levit_edge.record import Record

KERNELS_SHOWN = 12
OTHER = "other"


class KernelShare(Record):
    """One function of the runtime and its share of one inference; ``kind`` is what most of its arithmetic is."""

    library: str
    function: str
    kind: str
    instructions: int = Field(ge=0)
    share_pct: float = Field(ge=0, le=100)


class Instructions(Record):
    """Instructions of one inference on one thread, of the float reference and of the built model.

    Each is the median of ``runs`` counted inferences, and ``ratio`` is float / built. ``spread_pct`` is the difference
    between the largest and the smallest count in percent of the median, for the model where that is more. ``kernels``
    are the built model's functions, largest first; the last one, ``other``, is everything that is not listed.
    """

    device: str
    runtime: str
    runs: int = Field(ge=1)
    fp32_instructions: int = Field(ge=1)
    instructions: int = Field(ge=1)
    ratio: float = Field(gt=0)
    spread_pct: float = Field(ge=0)
    kernels: tuple[KernelShare, ...] = ()

    @classmethod
    def of(
        cls,
        *,
        device: str,
        runtime: str,
        fp32: Sequence[int],
        built: Sequence[int],
        kernels: Iterable[tuple[str, str, str, int]],
    ) -> Instructions:
        """From the counts of each inference, and ``(library, function, kind, instructions)`` of the built model.

        ValueError when the two were not counted equally often, or not at all.
        """
        if not built or len(fp32) != len(built):
            raise ValueError(f"{len(fp32)} and {len(built)} counted inferences cannot be compared")
        reference, total = round(median(fp32)), round(median(built))
        return cls(
            device=device,
            runtime=runtime,
            runs=len(built),
            fp32_instructions=reference,
            instructions=total,
            ratio=reference / total,
            spread_pct=max(_spread_pct(fp32), _spread_pct(built)),
            kernels=_shares(kernels, total),
        )


def _spread_pct(counts: Sequence[int]) -> float:
    return 100 * (max(counts) - min(counts)) / median(counts)


def _shares(kernels: Iterable[tuple[str, str, str, int]], total: int) -> tuple[KernelShare, ...]:
    largest = sorted(kernels, key=lambda kernel: -kernel[3])[:KERNELS_SHOWN]
    rest = total - sum(kernel[3] for kernel in largest)
    rows = [*largest, (OTHER, OTHER, OTHER, rest)] if rest > 0 else largest
    return tuple(
        KernelShare(
            library=library, function=function, kind=kind, instructions=count, share_pct=min(100.0, 100 * count / total)
        )
        for library, function, kind, count in rows
    )
