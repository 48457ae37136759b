"""The `sensitivity` verb on a real model and real images."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

import pytest

from levit_edge.cli import run
from levit_edge.pipeline import batched
from levit_edge.pipeline import sensitivity as step
from levit_edge.pipeline.images import BATCH
from levit_edge.pipeline.options import SensitivityOptions
from levit_edge.report.sensitivity import SHOWN, SensitivityReport
from levit_edge.report.sensitivity_picture import COLOURS
from tests.levit_edge.cli.commands import Captured, one_line
from tests.levit_edge.pipeline.conftest import SAMPLES, Built


def _words(built: Built, *more: str) -> list[str]:
    model = ["--model", str(built.model), "--calibration", str(built.images), "--samples", str(SAMPLES)]
    return ["sensitivity", *model, "--target", "onnx", *more]


def test_the_tensors_are_those_of_the_build_and_the_largest_gain_is_first(
    built: Built, tmp_path: Path, capfd: Captured
) -> None:
    picture = tmp_path / "noise.svg"
    assert run(_words(built, "--limit", "6", "--picture", str(picture), "--json")) == 0
    found = SensitivityReport.model_validate(json.loads(capfd.readouterr().out))
    assert (found.recipe, found.images.n, list(found.targets)) == ("int8", 6, ["onnx"])
    onnx = found.targets["onnx"]
    assert {f"{row.layer} {row.tensor}" for row in onnx.tensors} == set(built.report.targets["onnx"].ranges)
    gains = [row.gain_db for row in onnx.tensors if row.gain_db is not None]
    assert gains == sorted(gains, reverse=True) and onnx.sqnr_db is not None
    weight = next(row for row in onnx.tensors if (row.layer, row.tensor) == ("stem.2", "weight"))
    assert (weight.kind, weight.elements, weight.extra_bytes) == ("weight", 16 * 8 * 9, 3 * 16 * 8 * 9)
    drawn = picture.read_text(encoding="utf-8")
    assert all(f"fill: {colour}" in drawn for colour in COLOURS.values())  # bars of both kinds


def test_the_terminal_shows_the_first_and_counts_the_rest(built: Built, capfd: Captured) -> None:
    assert run(_words(built, "--limit", "2")) == 0
    text = capfd.readouterr().out
    more = len(built.report.targets["onnx"].ranges) - SHOWN
    assert "onnx: " in text and f"and {more} more, which --json has" in text


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (("--recipe", "fp32"), "stores nothing as integers; valid: int8, w8a16"),
        (("--picture", "absent/noise.svg"), "name a file in a folder that exists"),
        (("--picture", "noise.doc"), "no picture has this ending; valid: "),
        (("--limit", "0"), "'--limit': Input should be greater than or equal to 1"),
        (("--target", "tflite"), "unknown target 'tflite'"),
    ],
)
def test_bad_input_is_one_line(
    more: tuple[str, ...], reason: str, built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(_words(built, *more)) == 2
    assert reason in one_line(capfd.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_a_model_whose_batches_are_computed_otherwise_is_measured_image_by_image(
    built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    judge = step.judge_tensors
    monkeypatch.setattr(step, "judge_tensors", lambda *given: sizes.append(step.batch_size(given[0])) or judge(*given))
    options = SensitivityOptions(
        model=str(built.model), calibration=built.images, samples=SAMPLES, targets=("onnx",), limit=1
    )
    whole = step.sensitivity(options)
    numbers = count()
    monkeypatch.setattr(batched, "storable", lambda _: next(numbers))
    single = step.sensitivity(options)
    assert sizes == [BATCH, 1]
    assert {row.layer for row in whole.targets["onnx"].tensors} == {row.layer for row in single.targets["onnx"].tensors}
