"""What ``diff`` says about a real build and copies of it with one planted difference."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import fx
from torch.export import ExportedProgram

from levit_edge.bundle.manifest import PROGRAM_NAME, open_bundle, write_manifest
from levit_edge.cli import run
from levit_edge.errors import InputError
from levit_edge.pipeline.diff import diff
from levit_edge.pipeline.options import DiffOptions
from levit_edge.report.cause import NO_DIFFERENCE, NOT_VISIBLE, OTHER_TARGETS
from levit_edge.report.difference import BuildDifference
from quantize.hardswish import constant_value
from quantize.names import is_layer_node, layer_name
from quantize.roles import is_constant
from targets.program import replay
from targets.program.parameters import parameters
from targets.registry import TARGETS
from tests.levit_edge.pipeline.conftest import Built
from tests.programs import DEQUANTIZE, QUANTIZE
from tests.targets.program.faults import plant_onnx

BLOCK = "blocks.1"
PIECES = ("files", "operators", "scales", "constants", "layers_before", "layers_after", "notes")


def _diff(before: Path, after: Path, **options: Any) -> BuildDifference:
    return diff(DiffOptions(before, after, **options))


def _copy(built: Built, name: str, folder: Path) -> Path:
    return Path(shutil.copytree(built.out / name, folder / name))


def _sign(bundle: Path, **changes: object) -> Path:
    """Take what is in the folder for what was built, with ``changes`` to the manifest."""
    write_manifest(bundle, open_bundle(bundle).manifest.model_copy(update=changes))
    return bundle


def _report(built: Built, path: Path, change: Callable[[Any], object] = lambda _: None) -> Path:
    """The build's report with one change."""
    data = json.loads(built.report.to_json())
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def test_a_build_does_not_differ_from_itself(built: Built, tmp_path: Path) -> None:
    found = _diff(built.out, built.out)
    assert (found.differs, found.cause, found.changes, found.bundles) == (False, NO_DIFFERENCE, (), ())
    reports = _diff(_report(built, tmp_path / "one.json"), built.out / "report.json")
    assert (reports.differs, reports.cause) == (False, NO_DIFFERENCE)
    assert {bundle.target for bundle in reports.bundles} == set(TARGETS)
    assert all("scales and layers were not compared" in bundle.notes[0] for bundle in reports.bundles)
    mixed = _diff(built.out / "onnx", built.out / "report.json")
    assert (mixed.differs, [bundle.target for bundle in mixed.bundles]) == (False, ["onnx"])


def _scale_block(program: ExportedProgram, factor: float) -> set[tuple[str, str]]:
    """Multiply the scales of every activation of BLOCK; returns which ones."""
    found = parameters(program).activations
    elsewhere = {value.scale for key, value in found.items() if not key[0].startswith(BLOCK)}  # that of every gate, too
    chosen = {key: value for key, value in found.items() if value.scale not in elsewhere}
    scales = {value.scale for value in chosen.values()}
    for node in program.graph.nodes:
        if node.target in (QUANTIZE, DEQUANTIZE) and node.args[1] in scales:
            node.args = (node.args[0], node.args[1] * factor, *node.args[2:])
    return set(chosen)


@pytest.mark.parametrize("name", ["onnx", "executorch"])
def test_scales_of_one_block_times_four_are_named_and_nothing_else(name: str, built: Built, tmp_path: Path) -> None:
    bundle = _copy(built, name, tmp_path)
    program = replay.load(bundle / PROGRAM_NAME)
    planted = _scale_block(program, 4)
    torch.export.save(program, bundle / PROGRAM_NAME)
    found = _diff(built.out / name, _sign(bundle))
    (difference,) = found.bundles
    assert {(row.layer, row.tensor) for row in difference.scales} == planted and len(planted) >= 3
    assert all(row.ratio == pytest.approx(4) for row in difference.scales)
    assert all(row.zero_point_before == row.zero_point_after for row in difference.scales)
    assert [piece for piece in PIECES if getattr(difference, piece)] == ["scales"]
    assert (found.differs, found.cause, found.changes) == (True, NOT_VISIBLE, ())


def _weight_of(module: fx.GraphModule, layer: str) -> torch.Tensor:
    (node,) = [node for node in module.graph.nodes if node.op == "call_function" and _is_layer(node, layer)]
    weight = node.all_input_nodes[1].all_input_nodes[0]
    assert is_constant(weight)
    return constant_value(module, weight)


def _is_layer(node: fx.Node, layer: str) -> bool:
    return is_layer_node(node) and layer_name(node) == layer


def test_weights_are_compared_by_value(built: Built, tmp_path: Path) -> None:
    bundle = _copy(built, "onnx", tmp_path)
    program = replay.load(bundle / PROGRAM_NAME)
    module = program.module()
    assert isinstance(module, fx.GraphModule)
    weight = _weight_of(module, "blocks.0.q")
    assert (weight.dtype, weight.shape) == (torch.int8, (32, 32))
    with torch.no_grad():
        weight[:8] = torch.where(
            weight[:8] == 5, 6, 5
        )  # every value of 8 of the 32 rows; the program shares the tensor
    torch.export.save(program, bundle / PROGRAM_NAME)
    (difference,) = _diff(built.out / "onnx", _sign(bundle)).bundles
    (row,) = difference.constants
    assert (row.layer, row.constant, row.differing_share, row.scale_ratio) == ("blocks.0.q", "weight", 0.25, 1)
    assert [piece for piece in PIECES if getattr(difference, piece)] == ["constants"]


def test_another_calibration_is_the_cause(built: Built, tmp_path: Path) -> None:
    before = _report(built, tmp_path / "a.json")
    after = _report(built, tmp_path / "b.json", lambda data: data["calibration"].update(sha256="0" * 64, seed=6))
    found = _diff(before, after)
    assert found.cause == "most likely cause: another calibration (seed, sha256)"
    assert {change.field: change.after for change in found.changes} == {
        "calibration.sha256": "0" * 64,
        "calibration.seed": 6,
    }


def test_another_version_is_the_cause_between_reports_and_between_bundles(built: Built, tmp_path: Path) -> None:
    def other_runtime(data: Any) -> None:
        data["targets"]["onnx"]["tool_versions"]["onnxruntime"] = "9.9"

    versions = built.report.targets["onnx"].tool_versions | {"onnxruntime": "9.9"}
    bundle = _sign(_copy(built, "onnx", tmp_path), tool_versions=versions)
    pairs = (
        (built.out / "report.json", _report(built, tmp_path / "b.json", other_runtime)),
        (built.out / "onnx", bundle),
        (built.out / "report.json", bundle),
        (built.out, bundle),
    )
    for before, after in pairs:
        found = _diff(before, after)
        (change,) = found.changes
        assert found.cause == "most likely cause: other versions (onnxruntime)"
        assert (change.field, change.kind, change.after) == (
            "targets.onnx.tool_versions.onnxruntime", "version", "9.9",
        )  # fmt: skip


def test_what_only_a_manifest_says_is_compared(built: Built, tmp_path: Path) -> None:
    manifest = open_bundle(built.out / "onnx").manifest
    recipe = manifest.recipe.model_copy(update={"settings": manifest.recipe.settings | {"weight_range": "mse"}})
    changes = {"labels": ("cat", "dog", "hen"), "recipe": recipe}
    found = _diff(built.out / "onnx", _sign(_copy(built, "onnx", tmp_path), **changes))
    assert found.cause == "most likely cause: other labels (labels); another recipe (weight_range)"
    assert {change.field: (change.before, change.after) for change in found.changes} == {
        "targets.onnx.manifest.labels": (["cat", "dog", "owl"], ["cat", "dog", "hen"]),
        "targets.onnx.recipe_settings.weight_range": ("minmax", "mse"),
    }


def test_an_operator_that_was_lost_is_counted(built: Built, tmp_path: Path) -> None:
    bundle = _copy(built, "onnx", tmp_path)
    model = onnx.load(bundle / "model.onnx")
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    softmax.op_type = "Identity"
    del softmax.attribute[:]
    onnx.save(model, bundle / "model.onnx")
    found = _diff(built.out / "onnx", _sign(bundle))
    (difference,) = found.bundles
    counts = {(o.name, o.precision, o.placement): (o.before, o.after) for o in difference.operators}
    assert counts["Softmax", "float", "runtime"] == (3, 2)
    assert (found.cause, difference.files, difference.scales) == (NOT_VISIBLE, ("model.onnx",), ())


def test_a_file_with_other_bytes_is_named_even_if_nothing_else_differs(built: Built, tmp_path: Path) -> None:
    bundle = _copy(built, "onnx", tmp_path)
    plant_onnx(bundle / "model.onnx", 4, "negated weight")
    (difference,) = _diff(built.out / "onnx", _sign(bundle)).bundles
    assert difference.files == ("model.onnx",) and difference.differs


def test_without_a_program_the_rest_is_compared_and_that_is_said(built: Built, tmp_path: Path) -> None:
    bundle = _copy(built, "onnx", tmp_path)
    (bundle / PROGRAM_NAME).unlink()
    found = _diff(built.out / "onnx", bundle)
    assert found.differs is False
    assert found.bundles[0].notes == (f"no {PROGRAM_NAME} in {bundle}: scales and layers were not compared",)


def test_a_target_of_one_side_is_named(built: Built, tmp_path: Path) -> None:
    fewer = _report(built, tmp_path / "b.json", lambda data: data["targets"].pop("coreml"))
    found = _diff(built.out / "report.json", fewer)
    assert (found.targets_before, found.targets_after, found.cause) == (
        ("coreml",),
        (),
        f"{OTHER_TARGETS}{NO_DIFFERENCE}",
    )
    assert found.differs and found.changes == ()
    assert _diff(fewer, built.out / "report.json").targets_after == ("coreml",)


def test_the_command_line_shows_writes_and_ends_with_0(
    built: Built, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = _report(built, tmp_path / "b.json", lambda data: data["model"].update(sha256="0" * 64))
    page = tmp_path / "diff.md"
    assert run(["diff", str(built.out / "report.json"), str(other), "--markdown", str(page)]) == 0
    shown = capfd.readouterr().out
    assert shown.splitlines()[0] == "most likely cause: other weights (sha256)"
    assert "| model.sha256 |" in page.read_text(encoding="utf-8")
    assert run(["diff", str(built.out / "report.json"), str(other), "--json"]) == 0
    assert BuildDifference.model_validate_json(capfd.readouterr().out).differs


def test_bad_input_is_one_line(built: Built, tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text("[]")
    (tmp_path / "empty").mkdir()
    for path, words in (
        (tmp_path / "nowhere", "nowhere does not exist; name a report.json, the output folder"),
        (tmp_path / "empty", r"empty has neither report\.json nor manifest\.json; name the output folder"),
        (tmp_path / "text.json", r"text\.json is not a levit-edge report"),
    ):
        for pair in ((path, built.out), (built.out, path)):
            with pytest.raises(InputError, match=words) as caught:
                _diff(*pair)
            assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"onnx is a bundle of onnx, and .*coreml has coreml; compare bundles of one"):
        _diff(built.out / "onnx", built.out / "coreml")
    bundle = _copy(built, "onnx", tmp_path)
    (bundle / "golden.npz").write_bytes(b"")
    with pytest.raises(InputError, match=r"is not the bundle that was built: changed: golden\.npz"):
        _diff(built.out, bundle)


def test_a_page_that_cannot_be_written_is_refused_before_the_work(built: Built, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent is not a folder; name a file in a folder that exists"):
        _diff(built.out, built.out, markdown=tmp_path / "absent" / "diff.md")


def test_a_report_beside_bundles_of_another_build_is_refused(built: Built, tmp_path: Path) -> None:
    folder = tmp_path / "dist"
    _copy(built, "onnx", folder)
    _report(built, folder / "report.json", lambda data: data["model"].update(sha256="0" * 64))
    with pytest.raises(InputError, match=r"onnx is not the bundle that report\.json beside it describes"):
        _diff(built.out, folder)
