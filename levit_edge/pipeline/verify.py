"""Step 5: does a model file compute what its program does? Nothing is published that does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from calibration import Batch
from levit_edge.errors import LevitEdgeError
from levit_edge.metrics.sqnr import sqnr_db
from levit_edge.pipeline.lower import Lowered
from levit_edge.pipeline.plan import Job
from targets.program.run import ProgramRunner
from targets.runner import Image, Logits, run_batch

# Least SQNR in dB of a model file against its program. Float32 files reach 100 dB and more on trained weights and lose
# half of it where random weights amplify rounding; float16 keeps 11 bits; an integer runtime may round ties otherwise.
# A missing bias or a wrong scale costs far more than any of them.
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


def verify(job: Job, lowered: Lowered, shown: Examples) -> None:
    """LevitEdgeError unless both files of a bundle compute what they were lowered from."""
    recipe, target, inputs = job.plan.recipe, lowered.target, shown.batch.inputs
    with job.progress.step(f"{target.name}: compare with the program"):
        if (check := target.backend.verify) is not None:  # first, because it names the fault
            check(lowered.model_path, lowered.program, recipe.half, inputs)
            check(lowered.reference_path, job.subject.program, False, inputs)
        reference = run_batch(lowered.reference, inputs)
        check_match(f"{target.name} float reference", reference, shown.floats, FLOAT_MATCH_DB)
        name, found = f"{target.name} {recipe.name}", run_batch(lowered.runner, inputs)
        is_float = lowered.program is job.subject.program
        expected = shown.floats if is_float else lowered.program_runner.batch(inputs)
        if recipe.calibrates:
            check_integer_match(name, found, expected, shown.floats, INTEGER_MATCH_DB)
        else:
            check_match(name, found, expected, HALF_MATCH_DB if recipe.half else FLOAT_MATCH_DB)


def check_match(name: str, lowered: Logits, program: Logits, limit_db: float) -> None:
    """LevitEdgeError when the logits of a model file are further than ``limit_db`` from those of its program."""
    found = sqnr_db(program, lowered)
    if found < limit_db:
        raise LevitEdgeError(
            f"{name}: the model file differs from the program it was made from "
            f"(SQNR {found:.1f} dB, at least {limit_db:.1f} dB expected); nothing was written"
        )


def check_integer_match(name: str, lowered: Logits, program: Logits, floats: Logits, limit_db: float) -> None:
    """The same for integer programs, whose runtimes may round a tie the other way.

    In a network that amplifies such differences (random weights do) the file may end far from the program; then it
    must be as close to the float model as the program is.
    """
    if sqnr_db(floats, lowered) < sqnr_db(floats, program) - CLOSENESS_DB:
        check_match(name, lowered, program, limit_db)


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
