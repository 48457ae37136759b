"""Instructions per inference on an emulated processor: what to compare there, because its time says nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from pydantic import BaseModel, ConfigDict, Field

KERNELS_SHOWN = 12
OTHER = "other"


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class KernelShare(_Entry):
    """A function of the runtime: what most of its arithmetic is (``kind``), and its part of one inference."""

    library: str
    function: str
    kind: str
    instructions: int = Field(ge=0)
    share_pct: float = Field(ge=0, le=100)


class ArmInstructions(_Entry):
    """Guest instructions of one inference on one thread, of the float reference and of the built model.

    Each is the median of ``runs`` counted inferences, ``ratio`` is float / built, and ``spread_pct`` is the largest
    count less the smallest, as a share of the median, of whichever of the two scatters more. ``kernels`` are the built
    model's functions, largest first; the last one, ``other``, is everything that is not listed.
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
    ) -> ArmInstructions:
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
