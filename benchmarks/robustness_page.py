"""The page of the robustness benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from benchmarks import host
from benchmarks.probed_variants import PROBE_IMAGES, STATISTICS_IMAGES

WIDER, PER_TENSOR = 30.0, 4
_HEAD = (
    "| build | target | builds | SQNR dB, mean | standard deviation | least | most | agreement %, mean | least"
    " | rescaled | images | float top-1 % |"
)
_INTRODUCTION = """\
The recipe `int8` against the float model, when calibration images and checkpoints change. SQNR is that of the logits;
agreement is the share of images with the same answer. A row covers the builds that differ by their seed alone, and
`rescaled` counts those in which `rescale_channels` changed something."""
_METHOD = """\
- Torch computed the quantized programs; no runtime took part. A build compares each file with its program, layer by
  layer, and refuses one that departs from it."""
_TEXTS = {
    "seeds": """\
## Calibration images drawn by seed

The demo; each build calibrates on other images of the same set.""",
    "few": """\
## Few calibration images

The demo; an eighth of the default number.""",
    "domain": """\
## Calibration images of another domain

The demo, which classifies the small pictures of CIFAR-10, calibrated on large photographs.""",
    "outliers": f"""\
## Wide channels

In each residual stream and each q of the demo, the BatchNorm of {PER_TENSOR} channels was scaled by {WIDER:g}, and what
reads them by the inverse. The float function is the same. Rescaling undoes it, and leaves the demo itself as it is.""",
    "variants": f"""\
## The larger variants

No trained checkpoint of them is part of this project. Their weights are random, their BatchNorm statistics are those of
{STATISTICS_IMAGES} real images, and their head is a ridge regression on the features of {PROBE_IMAGES} labelled ones.

These figures do not say how well a trained variant is quantized. LeViT-128S, built in the same way, is the control: the
trained demo has the same shapes and is 25 dB and more above it (first table), so it is mostly the construction that
costs so much. The other rows can only be compared with the control, and each is a single draw of random weights.""",
}


@dataclass(frozen=True)
class Row:
    """One build for one target. ``group`` names what the builds of a table row have in common."""

    part: str
    group: str
    target: str
    seed: int
    samples: int
    images: int
    sqnr_db: float
    agreement_pct: float
    rescaled: bool
    float_top1_pct: float


def page(where: host.Host, rows: Sequence[Row]) -> str:
    """The Markdown page."""
    versions = " · ".join(f"{name} {version}" for name, version in where.versions.items())
    machine = f"- {where.processor}, {where.cores} cores, {where.system}, Python {where.python}.\n- {versions}.\n"
    parts = ["# How robust int8 is", _INTRODUCTION, f"```\n{where.command}\n```", machine + _METHOD]
    for part, text in _TEXTS.items():
        if found := [row for row in rows if row.part == part]:
            parts += [text, "\n".join(_table(found))]
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[Row]) -> Iterator[str]:
    yield _HEAD
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    for group, target in dict.fromkeys((row.group, row.target) for row in rows):
        found = [row for row in rows if (row.group, row.target) == (group, target)]
        sqnr, agreement = [row.sqnr_db for row in found], [row.agreement_pct for row in found]
        spread = f"{stdev(sqnr):.2f}" if len(sqnr) > 1 else "-"
        yield (
            f"| {group} | {target} | {len(found)} | {mean(sqnr):.2f} | {spread} | {min(sqnr):.2f} | {max(sqnr):.2f}"
            f" | {mean(agreement):.2f} | {min(agreement):.2f} | {sum(row.rescaled for row in found)}"
            f" | {found[0].images} | {found[0].float_top1_pct:.1f} |"
        )
