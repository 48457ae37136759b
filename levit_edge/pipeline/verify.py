"""Step 5: does a model file compute what its program does? Nothing is published that does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from calibration import Batch
from levit_edge.bundle.manifest import PROGRAM_NAME, Bundle, Manifest
from levit_edge.errors import VerificationFailed
from levit_edge.metrics.program_match import ProgramMatch
from levit_edge.metrics.sqnr import sqnr_db
from levit_edge.pipeline.lower import Lowered
from levit_edge.pipeline.plan import Job
from targets.program.replay import load as load_program
from targets.program.run import ProgramRunner
from targets.runner import Image, Logits, run_batch
from targets.target import Target

# Images on which the constants and layers of a file are compared with the program. One can show any fault; in int8,
# values that saturate for one image do not for another.
MODEL_IMAGES, REFERENCE_IMAGES = 2, 1

# Least SQNR in dB of the logits of a model file against those of its program. Float32 files reach 100 dB and more on
# trained weights and lose half of it where random weights amplify rounding; float16 keeps 11 bits; an integer runtime
# may round ties otherwise. A missing bias or a wrong scale costs far more than any of them.
FLOAT_MATCH_DB = 40.0
HALF_MATCH_DB = 40.0
INTEGER_MATCH_DB = 25.0
# How much closer to the float model a program may be than the file it was lowered to, where ties fall the other way.
CLOSENESS_DB = 1.0


@dataclass(frozen=True)
class Examples:
    """A few images with the answers of the float program, on which every target is verified."""

    source: str
    batch: Batch
    floats: Logits


def examples(job: Job) -> Examples:
    """The images and what the float program answers to them, computed once for all targets."""
    source, batch = job.images.for_verification(job.subject)
    return Examples(source, batch, ProgramRunner(job.subject.program).batch(batch.inputs))


def verify(job: Job, lowered: Lowered, shown: Examples) -> Lowered:
    """``lowered`` with its ``program_match``; VerificationFailed unless both files compute what they were lowered from.

    First come the constants and layers, which name the fault; then the logits of all ``shown`` images.
    """
    recipe, target, inputs = lowered.recipe, lowered.target, shown.batch.inputs
    with job.progress.step(f"{target.name}: compare with the program"):
        found = _match(lowered, inputs[:MODEL_IMAGES], half=recipe.half)
        if (check := target.backend.verify) is not None:
            _check_departures(
                lowered.reference_path.name,
                check(lowered.reference_path, job.subject.program, False, inputs[:REFERENCE_IMAGES]),
            )
        reference = run_batch(lowered.reference, inputs)
        check_match(f"{target.name} float reference", reference, shown.floats, FLOAT_MATCH_DB)
        name, logits = f"{target.name} {recipe.name}", run_batch(lowered.runner, inputs)
        is_float = lowered.program is job.subject.program
        expected = shown.floats if is_float else lowered.program_runner.batch(inputs)
        if not recipe.calibrates:
            check_match(name, logits, expected, HALF_MATCH_DB if recipe.half else FLOAT_MATCH_DB)
        elif found is None:
            check_integer_match(name, logits, expected, shown.floats, INTEGER_MATCH_DB)
        else:
            if far := far_images(logits, expected, INTEGER_MATCH_DB):
                _match(lowered, inputs[far], half=recipe.half)
    return replace(lowered, program_match=found)


def _match(lowered: Lowered, images: Image, *, half: bool) -> ProgramMatch | None:
    """How the built model compares with its program on ``images``; None where the target cannot tell."""
    check = lowered.target.backend.verify
    if check is None:
        return None
    found = check(lowered.model_path, lowered.program, half, images)
    _check_departures(lowered.model_path.name, found)
    return found


def _check_departures(name: str, found: ProgramMatch | None) -> None:
    if found is not None and found.departures:
        first, *others = found.departures
        more = f" (and {len(others)} more)" if others else ""
        raise VerificationFailed(f"{name} is not the program it was made from: {first}{more}; nothing was written")


def far_images(logits: Logits, program: Logits, limit_db: float) -> list[int]:
    """The images whose ``logits`` [B, classes] of an integer file are further than ``limit_db`` from the program's.

    Empty where all logits together are as close as that. A network can amplify a tie that is rounded the other way
    until its logits are far from the program's; random weights do. Such an image then proves neither that the file is
    right nor that it is wrong, but its layers do: they are computed from the runtime's own values, which carry no
    difference on. So the layers of these images are compared as well, and no image escapes both.
    """
    if sqnr_db(program, logits) >= limit_db:
        return []
    return [index for index, row in enumerate(program) if not sqnr_db(row, logits[index]) >= limit_db]


def check_match(name: str, lowered: Logits, program: Logits, limit_db: float) -> None:
    """VerificationFailed when the logits of a model file are further than ``limit_db`` from those of its program."""
    found = sqnr_db(program, lowered)
    if found < limit_db:
        raise VerificationFailed(
            f"{name}: the model file differs from the program it was made from "
            f"(SQNR {found:.1f} dB, at least {limit_db:.1f} dB expected); nothing was written"
        )


def check_integer_match(name: str, lowered: Logits, program: Logits, floats: Logits, limit_db: float) -> None:
    """The same for integer programs, for a target whose layers cannot be compared.

    The file may round ties the other way, and end far from the program in a network that amplifies that; then it must
    be as close to the float model as the program is.
    """
    if sqnr_db(floats, lowered) < sqnr_db(floats, program) - CLOSENESS_DB:
        check_match(name, lowered, program, limit_db)


def verify_bundle(bundle: Bundle, target: Target, images: Image) -> ProgramMatch | None:
    """How the built model of a finished bundle compares with its program on ``images`` float32 [B, C, H, W].

    None where the bundle comes without ``program.pt2``, or the target cannot tell. Raises InputError for a damaged
    file.
    """
    path, check = bundle.path / PROGRAM_NAME, target.backend.verify
    if check is None or not path.is_file():
        return None
    with one_torch_thread():
        return check(bundle.model_path, load_program(path), is_half(bundle.manifest), images)


def is_half(manifest: Manifest) -> bool:
    """True when the float operators of the built model compute in float16, on a target that can."""
    settings = manifest.recipe.settings
    return "float32" not in (settings["weights"], settings["activations"])


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Keep torch to one thread for the block: single images gain little from more, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_floats(model: torch.nn.Module, images: Image) -> Logits:
    """The float model in torch: float32 [B, C, H, W] -> [B, classes]."""
    with torch.no_grad():
        logits: Logits = model(torch.from_numpy(images)).numpy()
    return logits
