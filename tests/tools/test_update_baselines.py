"""Baselines are written from a report, completely and repeatably."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from levit_edge.errors import InputError
from tests.levit_edge.report import reports
from tools.update_baselines import main, update


def test_a_report_becomes_one_file_for_each_target(tmp_path: Path) -> None:
    report = reports.report(onnx=reports.target(), coreml=reports.target(bundle="coreml", latency=None))
    source = tmp_path / "report.json"
    source.write_text(report.to_json(), encoding="utf-8")
    folder = tmp_path / "baselines"
    folder.mkdir()
    main([str(source), "--folder", str(folder)])
    content = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.iterdir())}
    assert list(content) == ["coreml.json", "onnx.json"]
    assert content["onnx.json"]["speedup"] == 2.0 and content["coreml.json"]["speedup"] is None
    assert content["onnx.json"]["devices"] == {}
    assert content["onnx.json"]["accuracy"]["agreement_pct"] == 99.0
    delegation = {"delegates": None, "int8_ops": 98, "float_ops": 11, "fallback_ops": None, "operators": {}}
    assert content["onnx.json"]["delegation"] == delegation


def test_the_instructions_of_a_device_are_recorded(tmp_path: Path) -> None:
    (path,) = update(reports.report(onnx=reports.counted(reports.instructions())), tmp_path)
    assert json.loads(path.read_text(encoding="utf-8"))["devices"] == {
        reports.DEVICE: {"runtime": reports.ON_DEVICE, "fp32_instructions": 116_700_000, "instructions": 61_200_000}
    }


def test_recorded_instructions_are_not_lost(tmp_path: Path) -> None:
    counted = reports.counted(reports.instructions())
    paths = update(reports.report(coreml=reports.target(bundle="coreml"), onnx=counted), tmp_path)
    before = [path.read_bytes() for path in paths]
    changed = reports.target(bundle="coreml", size_bytes=9_000_000, size_ratio=0.5)
    for other in (reports.target(), reports.counted(reports.instructions("qemu-arm64:max"))):
        with pytest.raises(InputError, match=rf"onnx\.json has instructions of .*build with --device {reports.DEVICE}"):
            update(reports.report(coreml=changed, onnx=other), tmp_path)
        assert [path.read_bytes() for path in paths] == before


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    report = reports.report(onnx=reports.target())
    (path,) = update(report, tmp_path)
    before = path.read_bytes()
    update(report, tmp_path)
    assert path.read_bytes() == before


def test_a_report_without_accuracy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="onnx: the report has no accuracy"):
        update(reports.report(onnx=reports.target(accuracy=None)), tmp_path)
    assert not list(tmp_path.iterdir())
