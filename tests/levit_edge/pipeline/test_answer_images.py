"""One pass: every image goes to everybody once, the sums do not depend on the batches, and nothing piles up."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from calibration import Batch
from levit_edge.errors import LevitEdgeError
from levit_edge.metrics.agreement import Participant
from levit_edge.pipeline.answer_images import Answers, Cast, Local, Remote, answer_all
from targets.runner import Image, Logits

CLASSES = 4
NAMES = tuple(f"{index}.png" for index in range(40))
IMAGES = np.random.default_rng(0).normal(size=(len(NAMES), 1, 2, 2)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(-1, CLASSES, len(NAMES))


class Noisy:
    """Logits that depend on the image alone, plus noise of its own; ``asked`` counts the images it was shown."""

    runtime, executed = "noisy", True

    def __init__(self, noise: float) -> None:
        self.noise, self.asked = noise, list[int]()

    def batch(self, images: Image) -> Logits:
        self.asked.append(len(images))
        flat = images.reshape(len(images), -1)  # [B, 1, 2, 2] -> [B, 4]
        return (flat + self.noise * np.sin(100 * flat)).astype(np.float32)

    def __call__(self, image: Image) -> Logits:
        return self.batch(image)


def batches(size: int) -> Iterator[Batch]:
    for start in range(0, len(NAMES), size):
        part = slice(start, start + size)
        yield Batch(
            inputs=IMAGES[part].copy(),
            pixels=np.zeros((len(IMAGES[part]), 2, 2, 1), dtype=np.uint8),
            class_index=LABELS[part],
            names=NAMES[part],
        )


def participant(name: str, program: str | None = None) -> Participant:
    return Participant(name=name, target="toy", runtime=name, executed=program is not None, program=program)


def cast(load_images: int = 1, remote: bool = False) -> Cast:
    program = participant("toy program")
    here = participant("toy here", program.name)
    there = Remote("toy", Noisy(0.3), participant("toy there", program.name))
    return Cast(
        floats=Noisy(0),
        floats_participant=participant("float"),
        locals=(Local("toy", Noisy(0.2), here, Noisy(0.1), program),),
        remotes=(there,) if remote else (),
        load_images=load_images,
    )


def answered(size: int, everybody: Cast, compared: frozenset[str] | None) -> Answers:
    return answer_all(batches(size), everybody, "images", compared)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_figures_do_not_depend_on_the_batches(size: int) -> None:
    whole, parts = answered(40, cast(remote=True), None), answered(size, cast(8, remote=True), None)
    for name in ("n", "n_labelled", "top1_pct", "top1_fp32_pct", "top5_pct", "agreement_pct", "top1_lost"):
        assert getattr(parts.accuracy["toy"], name) == getattr(whole.accuracy["toy"], name)
    assert parts.accuracy["toy"].sqnr_db == pytest.approx(whole.accuracy["toy"].sqnr_db, abs=1e-9)
    assert parts.agreement.agreement_pct == whole.agreement.agreement_pct
    assert parts.agreement.sqnr_db[0][2] == pytest.approx(whole.agreement.sqnr_db[0][2], abs=1e-9)


def test_everybody_is_shown_each_image_once() -> None:
    everybody, compared = cast(8, remote=True), frozenset(NAMES[::4])
    found = answered(8, everybody, compared)
    (local,), (remote,) = everybody.locals, everybody.remotes
    assert isinstance(everybody.floats, Noisy) and isinstance(local.runner, Noisy)
    assert sum(everybody.floats.asked) == sum(local.runner.asked) == len(NAMES)
    assert isinstance(local.program, Noisy) and isinstance(remote.runner, Noisy)
    assert sum(local.program.asked) == sum(remote.runner.asked) == found.agreement.n == len(compared)
    assert remote.runner.asked == [8, 2]  # a device is asked when its load is complete, and once at the end
    assert found.accuracy["toy"].n == len(NAMES)
    outcomes = found.accuracy["toy"].outcomes
    assert outcomes is not None and not outcomes.flags().right[LABELS < 0].any()  # in the order of the pass


def test_the_figures_of_a_device_are_those_of_the_images_it_was_shown() -> None:
    compared = frozenset(NAMES[:10])
    figures = answered(8, cast(4, remote=True), compared).on_device["toy"]
    assert figures.accuracy is not None and figures.local is not None
    assert figures.accuracy.n == figures.local.n == 10
    assert figures.accuracy.n_labelled == int((LABELS[:10] >= 0).sum())
    assert figures.local.runtime == "noisy"
    assert figures.accuracy.outcomes is not None and figures.accuracy.outcomes.n == 10


def test_no_image_is_kept_longer_than_a_device_needs_it() -> None:
    alive: list[Callable[[], object]] = []
    most = 0

    def watched() -> Iterator[Batch]:
        nonlocal most
        for batch in batches(4):
            gc.collect()
            most = max(most, sum(ref() is not None for ref in alive))
            alive.append(weakref.ref(batch.inputs))
            yield batch
            del batch

    answer_all(watched(), cast(8, remote=True), "images", None)
    assert most <= 2  # the one just answered, and the one before it that the loop still names


def test_logits_that_are_not_finite_stop_the_pass() -> None:
    class Broken(Noisy):
        def batch(self, images: Image) -> Logits:
            return np.full((len(images), CLASSES), np.nan, dtype=np.float32)

    everybody = cast()
    broken = Local("toy", Broken(0), everybody.locals[0].participant, Noisy(0), everybody.locals[0].program_participant)
    with pytest.raises(LevitEdgeError, match="NaN or infinite"):
        answer_all(
            batches(8), Cast(everybody.floats, everybody.floats_participant, (broken,)), "images", frozenset(NAMES)
        )
