"""How the benchmark of damaged builds reads what the gates say."""

from __future__ import annotations

from pathlib import Path

from benchmarks.damages import DAMAGES, UNDECIDED
from benchmarks.gate_faults import judge
from levit_edge.gates.baseline import compare_to_baseline
from levit_edge.gates.gates_file import GatesFile
from levit_edge.gates.registry import GATES
from levit_edge.report.schema import load_report
from tests.places import BASELINE


def test_the_table_the_junit_file_and_the_summary_are_read_alike(tmp_path: Path) -> None:
    report = load_report(BASELINE)
    onnx = report.targets["onnx"]
    damaged = onnx.model_copy(update={"size_bytes": 2 * onnx.size_bytes, "size_ratio": 2 * onnx.size_ratio})
    for name, target, words in (("sound", onnx, "none"), ("damaged", damaged, "baseline_size_bytes, size_ratio")):
        folder = tmp_path / name
        folder.mkdir()
        built = report.model_copy(update={"targets": {"onnx": target}})
        (folder / "report.json").write_text(built.to_json(), encoding="utf-8")
        stopped = judge(folder)
        assert stopped.agree and stopped.words == words and stopped.code == (words != "none")


def test_a_damage_names_gates_that_there_are() -> None:
    report = load_report(BASELINE)
    compared = compare_to_baseline(report, report, GatesFile())
    names = {*GATES, *(result.name for results in compared.values() for result in results)}
    assert {gate.removesuffix(UNDECIDED) for damage in DAMAGES for gate in damage.must | damage.may} <= names
    assert len({damage.name for damage in DAMAGES}) == len(DAMAGES)
