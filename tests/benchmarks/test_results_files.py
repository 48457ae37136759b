"""The page and the JSON files say what was measured, and only that."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.entry import Entry
from benchmarks.host import Host
from benchmarks.measure import latencies, rows
from benchmarks.results_files import markdown, write_json
from levit_edge.metrics.accuracy import AccuracyMeter
from targets.runner import Image, Logits

HOST = Host("python -m benchmarks.peers", "a processor", (), 2, "Linux x86_64", "3.11.0", {"torch": "2.13.0"})


class _Runner:
    runtime, executed = "onnxruntime-cpu", True

    def __call__(self, image: Image) -> Logits:
        return image.reshape(1, -1)[:, :2]


def _entry(name: str, precision: str) -> Entry:
    return Entry(name, "A title", "onnxruntime", precision, "how", _Runner(), 2_000_000)


def _rows(names: dict[str, str]) -> list:
    entries = [_entry(name, precision) for name, precision in names.items()]
    meter = AccuracyMeter()
    meter.update(np.array([[1.0, 3.0]]), np.array([[1.0, 2.0]]), np.array([1]))
    accuracy = dict.fromkeys(names, meter.result(runtime="onnxruntime-cpu", executed=True))
    return rows(entries, accuracy, latencies(entries, np.zeros((1, 3, 2, 2), np.float32), 3))


def test_a_row_is_compared_with_its_float_reference_and_with_ours_but_not_with_itself():
    reference, ours, peer = _rows(
        {"stock-onnxruntime-float32": "float32", "ours-onnxruntime-int8": "int8", "stock-onnxruntime-int8": "int8"}
    )
    assert set(reference.speed_against) == {"ours-onnxruntime-int8"}
    assert set(ours.speed_against) == {"stock-onnxruntime-float32"}
    assert set(peer.speed_against) == {"stock-onnxruntime-float32", "ours-onnxruntime-int8"}


def test_the_page_has_every_row_and_says_what_was_left_out():
    page = markdown(HOST, _rows({"stock-onnxruntime-float32": "float32"}), {"NNCF + OpenVINO": "not installed"})
    assert "| A title (`stock-onnxruntime-float32`) | float32 | 100.0 | 100.0 | 10.0 |" in page
    assert "- NNCF + OpenVINO: not installed." in page


def test_json_files_of_an_earlier_run_are_removed(tmp_path: Path):
    (tmp_path / "old.json").write_text("{}", encoding="utf-8")
    write_json(tmp_path, HOST, _rows({"stock-onnxruntime-float32": "float32"}), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json", "stock-onnxruntime-float32.json"]
    record = json.loads((tmp_path / "stock-onnxruntime-float32.json").read_text(encoding="utf-8"))
    assert record["size_bytes"] == 2_000_000
    assert len(record["latency"]["samples_ms"]) == 3
