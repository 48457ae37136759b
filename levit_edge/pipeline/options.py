"""What each verb can be asked: one record per verb. A field carries its default and its help, for Python and the CLI.

Nothing here imports torch, so that ``levit-edge --help`` answers at once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from levit_edge.devices import LOCAL, device_help
from levit_edge.errors import InputError
from levit_edge.metrics.measurement_defaults import COUNTED_RUNS, TIMED_RUNS
from levit_edge.report.policy import IDENTITIES, UndecidedPolicy
from targets.registry import TARGETS

if TYPE_CHECKING:
    from torch.nn import Module
else:
    Module = Any

ALL_TARGETS = "all"
MAX_SQNR_DB = 100  # near what float32 itself has


@dataclass(frozen=True)
class Option:
    """How a field appears on the command line.

    ``flag`` is its name there, where it differs from the field's. ``minimum`` and ``maximum`` bound a number, in
    Python as on the command line. ``type`` is what the command line gives where the field takes more than that.
    ``argument`` makes it a positional argument. ``default_text`` describes a default that is no plain value.
    """

    help: str
    metavar: str | None = None
    flag: str | None = None
    minimum: int | None = None
    maximum: int | None = None
    type: Any = None
    argument: bool = False
    default_text: str | None = None


def options_of(record: type) -> dict[str, Option]:
    """The fields of ``record`` that the command line shows, with how it shows them."""
    hints = get_type_hints(record, include_extras=True)
    found = {name: getattr(hints[name], "__metadata__", ()) for name in (field.name for field in fields(record))}
    return {name: metadata[0] for name, metadata in found.items() if metadata}


class _Checked:
    """A record whose numbers keep the bounds that its options state; InputError otherwise."""

    def __post_init__(self) -> None:
        policy = getattr(self, "undecided", None)
        if policy not in (None, "fail", "warn"):
            raise InputError(f"undecided is {policy!r}; valid: fail, warn")
        for name, option in options_of(type(self)).items():
            value = getattr(self, name)
            if isinstance(value, int) and option.minimum is not None and value < option.minimum:
                raise InputError(f"{name} is {value}; it must be at least {option.minimum}")
            if isinstance(value, int) and option.maximum is not None and value > option.maximum:
                raise InputError(f"{name} is {value}; it must be at most {option.maximum}")


_BUNDLE = Option("Folder of a bundle, such as dist/onnx.", metavar="BUNDLE", argument=True)
_DEVICE = Option(f"Where the bundles run: {device_help()}.", metavar="D")
_LIMIT = Option("Use at most N images.", metavar="N", minimum=1)
_THREADS = Option("Threads of the latency measurement.", metavar="N", minimum=1, maximum=os.cpu_count() or 1)
_GATES = Option("TOML file with limits that replace the default ones.", metavar="FILE")
_UNDECIDED = Option(
    "Whether an undecided gate fails the run or only warns (default: what the gates file says, else fail).",
    metavar="fail|warn",
    type=str | None,
)

DeviceName = Annotated[str, _DEVICE]
Limit = Annotated[int | None, _LIMIT]
Threads = Annotated[int, _THREADS]
GatesPath = Annotated[Path | None, _GATES]
Undecided = Annotated[UndecidedPolicy | None, _UNDECIDED]
BundlePath = Annotated[Path, _BUNDLE]


@dataclass(frozen=True)
class ModelOptions(_Checked):
    """What every verb that quantizes a model can be asked.

    ``model`` is a path, a hub id, a variant name (with ``random_weights``), a live module (one of a model family's own
    classes, fused or not, or a transformers model), or None for the embedded demo. ``targets`` are names of targets,
    or ``all``, in any order; each is taken once. ``labels`` is a text file with one class name a line. ``limit`` caps
    the images to evaluate on. Raises InputError for an unknown target or a number out of its bounds.
    """

    model: Annotated[
        str | Module | None,
        Option(
            "Checkpoint: a directory, a file or a Hub id; without it, the embedded demo.", metavar="M", type=str | None
        ),
    ] = None
    targets: Annotated[
        tuple[str, ...],
        Option(
            f"{', '.join(TARGETS)} or {ALL_TARGETS}; repeatable.",
            metavar="NAME",
            flag="--target",
            type=list[str],
            default_text=ALL_TARGETS,
        ),
    ] = (ALL_TARGETS,)
    calibration: Annotated[
        Path | None,
        Option("Images that choose the scales: a folder or an archive; no labels needed.", metavar="DATA"),
    ] = None
    eval_data: Annotated[Path | None, Option("Images that measure the accuracy.", metavar="DATA", flag="--eval")] = None
    recipe: Annotated[str, Option("How to quantize: int8, fp32, fp16 or w8a16.", metavar="NAME|FILE.toml")] = "int8"
    samples: Annotated[int, Option("Calibration images to draw.", metavar="N", minimum=1)] = 256
    seed: Annotated[int, Option("Seed of the draw.", metavar="N")] = 0
    random_weights: Annotated[bool, Option("Let M be a variant name, without a checkpoint.")] = False
    labels: Annotated[Path | None, Option("Text file with one class name a line.", metavar="FILE")] = None
    skip_bad_images: Annotated[bool, Option("List damaged images instead of stopping.")] = False
    limit: Limit = None

    def __post_init__(self) -> None:
        super().__post_init__()
        valid = (*TARGETS, ALL_TARGETS)
        given: object = self.targets
        if not isinstance(given, tuple) or not given:  # a lone string would be taken letter by letter
            raise InputError(f"targets is {given!r}; give a tuple of names; valid: {', '.join(valid)}")
        for name in self.targets:
            if name not in valid:
                raise InputError(f"unknown target {name!r}; valid: {', '.join(valid)}")
        chosen = [name for name in TARGETS if name in self.targets or ALL_TARGETS in self.targets]
        object.__setattr__(self, "targets", tuple(chosen))
        if self.random_weights and self.model is None:
            raise InputError("--random-weights needs --model with the name of a variant")


@dataclass(frozen=True)
class BuildOptions(ModelOptions):
    """Every option of ``levit-edge build``.

    ``min_sqnr`` also is the limit of the gate `sqnr_db`, and ``max_drop`` that of `top1_drop_pp`. ``threads`` are those
    of the timed runtimes. ``device`` is another machine that runs the bundles too. Raises InputError as
    :class:`ModelOptions` does.
    """

    min_sqnr: Annotated[
        float | None,
        Option(
            "Keep more tensors float, the cheapest first, until the logits have this signal to noise ratio in dB.",
            metavar="DB",
        ),
    ] = None
    max_drop: Annotated[
        float | None,
        Option(
            "Keep more tensors float, the cheapest first, until top-1 is at most this much lower than that of float, "
            "in percentage points.",
            metavar="PP",
        ),
    ] = None
    out: Annotated[Path, Option("Where the bundles and the report go.", metavar="DIR")] = Path("dist")
    gates: GatesPath = None
    undecided: Undecided = None
    threads: Threads = 1
    runs: Annotated[int, Option("Rounds of the latency measurement.", metavar="N", minimum=1)] = TIMED_RUNS
    device: DeviceName = LOCAL

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_sqnr is not None and not 0 < self.min_sqnr <= MAX_SQNR_DB:
            raise InputError(f"min_sqnr is {self.min_sqnr:g}; it must be above 0 and at most {MAX_SQNR_DB} dB")
        if self.max_drop is not None and not 0 <= self.max_drop <= 100:
            raise InputError(f"max_drop is {self.max_drop:g}; it must be from 0 to 100 percentage points")


@dataclass(frozen=True)
class SensitivityOptions(ModelOptions):
    """Every option of ``levit-edge sensitivity``. The noise is measured on the images to evaluate on."""

    limit: Limit = 128
    picture: Annotated[
        Path | None, Option("Draw the tensors that cost most; the ending chooses the format.", metavar="FILE.svg")
    ] = None

    @property
    def as_build(self) -> BuildOptions:
        """The build that is looked at."""
        return BuildOptions(**{field.name: getattr(self, field.name) for field in fields(ModelOptions)})


@dataclass(frozen=True)
class EvaluateOptions(_Checked):
    """Every option of ``levit-edge eval``: ``data`` may be left out for a bundle of the demo."""

    bundle: BundlePath
    data: Annotated[Path | None, Option("Images; without it, the demo's for a demo bundle.", metavar="DATA")] = None
    limit: Limit = None
    device: DeviceName = LOCAL
    gates: GatesPath = None
    undecided: Undecided = None


@dataclass(frozen=True)
class BenchOptions(_Checked):
    """Every option of ``levit-edge bench``. ``runs`` are timed rounds, or inferences on a device that counts."""

    bundles: Annotated[
        tuple[Path, ...], Option("Folders of bundles.", metavar="BUNDLE...", type=list[Path], argument=True)
    ]
    device: DeviceName = LOCAL
    threads: Threads = 1
    runs: Annotated[
        int | None,
        Option(
            "Timed rounds, or counted inferences on a device that counts.",
            metavar="N",
            minimum=1,
            default_text=f"{TIMED_RUNS} or {COUNTED_RUNS}",
        ),
    ] = None


@dataclass(frozen=True)
class InspectOptions(_Checked):
    """Every option of ``levit-edge inspect``."""

    bundle: BundlePath
    diverge: Annotated[
        Path | None,
        Option(
            "Show the first layer where this machine's runtime departs from the quantized program.", metavar="IMAGE"
        ),
    ] = None


@dataclass(frozen=True)
class PredictOptions(_Checked):
    """Every option of ``levit-edge predict``; ``top`` is how many classes it gives."""

    bundle: BundlePath
    images: Annotated[tuple[Path, ...], Option("Image files.", metavar="IMAGE...", type=list[Path], argument=True)]
    top: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top < 1:
            raise InputError(f"top is {self.top}; it must be at least 1")


@dataclass(frozen=True)
class GateOptions(_Checked):
    """Every option of ``levit-edge gate``. ``init`` names the gates file to write; no gate is checked then."""

    report: Annotated[Path, Option("report.json of a build.", metavar="REPORT", argument=True)]
    baseline: Annotated[Path | None, Option("Report of an earlier release to compare with.", metavar="FILE")] = None
    accept_difference: Annotated[
        tuple[str, ...],
        Option(
            f"Compare with the baseline although this differs: {', '.join(IDENTITIES)}; repeatable.",
            metavar="NAME",
            type=list[str],
            default_text="none",
        ),
    ] = ()
    junit: Annotated[Path | None, Option("Write the results as JUnit XML.", metavar="FILE")] = None
    markdown: Annotated[Path | None, Option("Write the results as Markdown.", metavar="FILE")] = None
    init: Annotated[
        Path | None, Option("Write a gates file with the limits that hold for the report.", metavar="FILE")
    ] = None
    gates: GatesPath = None
    undecided: Undecided = None


_SIDE = "report.json, output folder of a build, or one bundle."


@dataclass(frozen=True)
class DiffOptions(_Checked):
    """Every option of ``levit-edge diff``: two builds, each a report, an output folder or one bundle."""

    before: Annotated[Path, Option(f"The first build: {_SIDE}", metavar="A", argument=True)]
    after: Annotated[Path, Option(f"The second build: {_SIDE}", metavar="B", argument=True)]
    markdown: Annotated[Path | None, Option("Write the differences as Markdown.", metavar="FILE")] = None


@dataclass(frozen=True)
class DoctorOptions:
    """``levit-edge doctor`` has no options."""
