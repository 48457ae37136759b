"""The comparison of accuracy: what it computes of the logits, and what the page and the JSON file say of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

from benchmarks import accuracy_page
from benchmarks.accuracy import unseen
from benchmarks.accuracy_rows import OURS, AccuracyRow, judge_all
from benchmarks.entry import Entry, Family
from benchmarks.host import Host
from benchmarks.measure import Compared, compare
from calibration import Batch
from levit_edge.errors import InputError
from levit_edge.report.schema import EvaluationSet
from targets.runner import Image, Logits

HOST = Host("python -m benchmarks.accuracy", "a processor", (), 2, "Linux x86_64", "3.11.0", {"torch": "2.13.0"})
IMAGES = EvaluationSet(source="photographs.zip", n=40, sha256="0" * 64)


class _Floats(nn.Module):
    """The pixels are the logits: [B, 1, 1, K] -> [B, K]."""

    def forward(self, image: Tensor) -> Tensor:
        return image.flatten(1)


class _Noisy:
    """The logits with an error of ``step`` in the first one; it is 21 times that in the last image, and changes it."""

    def __init__(self, step: float, executed: bool) -> None:
        self.runtime, self.executed, self._step = "a runtime", executed, step

    def __call__(self, image: Image) -> Logits:
        logits = image.reshape(1, -1).copy()
        logits[0, 0] += self._step * (21 if image[0, 0, 0, 2] == 1.0 else 1)
        return logits


def _batches() -> list[Batch]:
    """40 images of class 1, the last of which is marked."""
    inputs = np.zeros((40, 1, 1, 3), np.float32)
    inputs[..., 1] = 2.0
    inputs[-1, 0, 0, 2] = 1.0
    names = tuple(f"image-{index}" for index in range(40))
    whole = Batch(inputs=inputs, pixels=inputs.astype(np.uint8), class_index=np.ones(40, np.int64), names=names)
    return [_part(whole, slice(0, 25)), _part(whole, slice(25, 40))]


def _part(batch: Batch, chosen: slice) -> Batch:
    return Batch(
        inputs=batch.inputs[chosen],
        pixels=batch.pixels[chosen],
        class_index=batch.class_index[chosen],
        names=batch.names[chosen],
    )


def _entry(name: str, family: Family, step: float, *, executed: bool = True) -> Entry:
    return Entry(name, "A title", family, "int8", "how", _Noisy(step, executed), 2_000_000)


def _entries() -> list[Entry]:
    own = [_entry(name, family, 0.1, executed=family != "coreml") for family, name in OURS.items() if family in name]
    return [*own, _entry("nncf-int8", "openvino", 0.2), _entry("stock-coreml-int8", "coreml", 0.1)]


def _compared() -> dict[str, Compared]:
    return compare(_Floats(), _batches(), _entries())


def _rows() -> dict[str, AccuracyRow]:
    return {row.entry.name: row for row in judge_all(_entries(), _compared())}


def test_the_squares_of_each_image_are_those_that_the_ratio_is_made_of() -> None:
    found = _compared()["nncf-int8"]
    assert found.signal == pytest.approx([4.0] * 39 + [5.0])
    assert found.noise == pytest.approx([0.04] * 39 + [4.2**2])
    assert found.accuracy.sqnr_db == pytest.approx(10 * math.log10(found.signal.sum() / found.noise.sum()))


def test_a_runtime_that_simulates_is_not_said_to_have_executed() -> None:
    assert {name for name, found in _compared().items() if not found.accuracy.executed} == {"ours-coreml-int8"}


def test_a_lost_answer_is_a_drop_with_an_interval_around_it() -> None:
    row = _rows()["nncf-int8"]
    assert row.accuracy.top1_drop_pp == 2.5 and row.accuracy.agreement_pct == 97.5
    assert row.drop is not None and row.drop.low < 0 < 2.5 < row.drop.high
    assert (row.agreement.low, row.agreement.high) == pytest.approx((86.84, 99.94), abs=0.01)  # Clopper and Pearson


def test_every_peer_is_compared_with_ours_for_its_runtime_and_ours_with_nothing() -> None:
    against = {name: row.difference and row.difference.ours for name, row in _rows().items()}
    assert against == {
        "ours-onnxruntime-int8": None,
        "ours-executorch-int8": None,
        "ours-coreml-int8": None,
        "nncf-int8": "ours-onnxruntime-int8",
        "stock-coreml-int8": "ours-coreml-int8",
    }


def test_the_difference_is_that_of_the_two_ratios() -> None:
    rows = _rows()
    row, ours = rows["nncf-int8"], rows["ours-onnxruntime-int8"]
    assert row.difference is not None and row.accuracy.sqnr_db is not None and ours.accuracy.sqnr_db is not None
    assert row.difference.better_db == pytest.approx(ours.accuracy.sqnr_db - row.accuracy.sqnr_db)
    equal = rows["stock-coreml-int8"].difference
    assert equal is not None and (equal.better_db, equal.bounds.low, equal.apart) == (0, pytest.approx(0), False)


@pytest.mark.parametrize(("step", "batches", "apart"), [(0.11, 2, False), (0.11, 1, True)])
def test_intervals_that_overlap_do_not_hide_a_paired_difference(step: float, batches: int, apart: bool) -> None:
    """The second batch has the marked image, whose large error makes the intervals wide."""
    ours = _entry("ours-executorch-int8", "executorch", 0.1)
    peer = _entry("stock-executorch-int8", "executorch", step)
    found = judge_all([ours, peer], compare(_Floats(), _batches()[:batches], [ours, peer]))[1].difference
    assert found is not None and found.apart is apart
    assert (found.better_db, found.bounds.low) == pytest.approx((20 * math.log10(1.1),) * 2)


def test_an_image_that_calibrates_is_refused() -> None:
    batches = _batches()
    assert len(list(unseen(batches, batches[0].inputs + 1))) == 2
    with pytest.raises(InputError, match="image-39 calibrates, too"):
        list(unseen(batches, batches[1].inputs[-1:]))


def test_the_page_says_what_was_measured_and_what_was_left_out() -> None:
    page = accuracy_page.markdown(HOST, IMAGES, list(_rows().values()), {"NNCF + OpenVINO": "not installed"})
    assert "| A title (`nncf-int8`) | 97.50 | 2.50 (" in page
    assert "| a runtime, executed | 2.00 |" in page and "| a runtime, simulated | 2.00 |" in page
    assert "- Images: 40 of photographs.zip;" in page and "right on 100.00 % of them" in page
    assert "- NNCF + OpenVINO: not installed." in page


def test_the_file_has_the_intervals_and_no_infinity(tmp_path: Path) -> None:
    equal = _entry("ours-onnxruntime-int8", "onnxruntime", 0.0)
    batches = _batches()[:1]
    rows = judge_all([equal], compare(_Floats(), batches, [equal]))
    accuracy_page.write_json(tmp_path / "new" / "accuracy.json", HOST, IMAGES, [*rows, *_rows().values()], {})
    text = (tmp_path / "new" / "accuracy.json").read_text(encoding="utf-8")
    assert "Infinity" not in text
    exact, *_, last = json.loads(text)["entries"]
    assert exact["sqnr_db_95"] == [None, None] and exact["against_ours"] is None
    assert last["against_ours"]["name"] == "ours-coreml-int8"
    assert last["against_ours"]["sqnr_intervals_overlap"] is True
    assert last["accuracy"]["n"] == 40 and len(last["agreement_pct_95"]) == 2
