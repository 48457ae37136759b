"""The first layer where a runtime departs from its program: none in a healthy bundle, the damaged one in others."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from levit_edge.bundle.manifest import PROGRAM_NAME, open_bundle, write_manifest
from levit_edge.errors import InputError, LevitEdgeError
from levit_edge.pipeline.diverge import compare, diverge
from levit_edge.report.divergence import Divergence
from quantize.flow import trace
from targets.program.tap import Layer
from targets.registry import TARGETS
from targets.runner import Image
from tests.levit_edge.pipeline.conftest import Built, change_backend
from tests.programs import ATTENTIONS, CONVS, LINEARS
from tests.targets.program.faults import PLANTS

LAYERS = CONVS + LINEARS + 2 * ATTENTIONS

# Early, middle and late layers. Only a square weight can be transposed without a runtime noticing; XNNPACK notices a
# scale that a move does not share, which leaves the layers before a Hardswish and the last one.
EARLY, MIDDLE, LATE = 2, 14, 27
SQUARE = (4, 13, 21)
PLANTED = [
    *[("onnx", "dropped bias", index) for index in (EARLY, MIDDLE, LATE)],
    *[("onnx", "negated weight", index) for index in (EARLY, MIDDLE, LATE)],
    *[("onnx", fault, index) for index in (EARLY, 10, 26) for fault in ("scale", "zero point")],
    *[("executorch", "dropped bias", index) for index in (EARLY, MIDDLE, LATE)],
    *[("executorch", "transposed weight", index) for index in SQUARE],
    *[("executorch", fault, index) for index in (EARLY, 10, 26) for fault in ("scale", "zero point")],
    *[("coreml", "dropped bias", index) for index in (EARLY, MIDDLE, LATE)],
    *[("coreml", "transposed weight", index) for index in SQUARE],
    *[("coreml", "zero point", index) for index in (EARLY, 10, LATE)],
]
# The first layer of each kind of fault at once, the others when there is more time.
FIRST = {(name, fault): index for name, fault, index in reversed(PLANTED)}
CASES = [
    pytest.param(name, fault, index, marks=() if FIRST[name, fault] == index else pytest.mark.slow)
    for name, fault, index in PLANTED
]


def _photograph(built: Built) -> Path:
    return built.images / "cat" / "0.png"


def _copy(built: Built, name: str, folder: Path) -> Path:
    return Path(shutil.copytree(built.out / name, folder / name))


def _sign(bundle: Path) -> Path:
    """Take what is in the folder for what was built."""
    write_manifest(bundle, open_bundle(bundle).manifest)
    return bundle


@pytest.mark.parametrize("name", TARGETS)
def test_a_healthy_bundle_departs_nowhere(name: str, built: Built) -> None:
    found = diverge(built.out / name, _photograph(built))
    assert (found.target, found.first, found.undisturbed, len(found.layers)) == (name, None, True, LAYERS)
    assert found.executed is (name != "coreml")
    assert [row.index for row in found.layers] == list(range(LAYERS))
    assert (found.layers[0].name, found.layers[-1].name) == ("stem.0", "head")
    for row in found.layers:
        assert row.departs == "" and row.local.max_steps is not None and row.local.max_steps < 2
        assert row.local.mean_steps is not None
        assert row.float_sqnr_db is None or row.float_sqnr_db > 10
    exact = [row.name for row in found.layers if row.float_sqnr_db is None or row.float_sqnr_db > 50]
    floats = ["stem.0"] if name == "executorch" else ["stem.0", "stem.1"]
    # They are float, and nothing that they read was rounded. The few logits can be close by chance.
    assert [layer for layer in exact if layer != "head"] == floats
    assert Divergence.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(("name", "fault", "index"), CASES)
def test_the_damaged_layer_is_the_first_that_departs(
    name: str, fault: str, index: int, built: Built, tmp_path: Path
) -> None:
    bundle = _copy(built, name, tmp_path)
    PLANTS[name](bundle / TARGETS[name].model_file, index, fault)
    found = diverge(_sign(bundle), _photograph(built))
    assert found.first == index and found.undisturbed
    reason = found.layers[index].departs
    if fault in ("scale", "zero point") and name != "coreml":
        assert reason.startswith(f"its {fault} is ")
    else:
        assert "are wrong, the worst by" in reason


def test_a_tap_that_changes_the_logits_is_an_error_and_no_verdict(
    built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = TARGETS["onnx"].backend.tap
    assert healthy is not None

    def disturbed(path: Path, image: Image) -> tuple[Layer, ...]:
        *layers, last = healthy(path, image)
        data = last.data.copy()
        data[0, 0] = np.nextafter(data[0, 0], np.float32(np.inf))
        return (*layers, Layer(last.kind, last.name, data, last.affine))

    change_backend(monkeypatch, "onnx", tap=disturbed)
    with pytest.raises(LevitEdgeError, match=r"model\.onnx gives other logits while its layers are read out") as caught:
        diverge(built.out / "onnx", _photograph(built))
    assert caught.value.exit_code == 4


def test_a_value_that_is_not_finite_has_no_figure() -> None:
    layer = Layer("matmul", "blocks.0.bmm", np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 8, 8))
    for wrong in (math.inf, math.nan):
        data = layer.data.copy()
        data[0, 0, 0] = wrong
        (row,) = compare([Layer("matmul", "bmm", data)], [layer], [layer], [layer], ["why"])
        assert row.departs == "why"
        assert row.local.max_steps is None and row.local.sqnr_db is None and row.local.differing_share == 1 / 64


def test_the_figures_of_a_float_layer_are_measured_by_its_range() -> None:
    layer = Layer("matmul", "blocks.0.bmm", np.linspace(0, 255, 256, dtype=np.float32).reshape(1, 16, 16))
    shifted = Layer("matmul", "bmm", layer.data + np.float32(0.5))
    (row,) = compare([shifted], [layer], [layer], [shifted], [""])
    assert (row.local.max_steps, row.local.mean_steps, row.local.differing_share) == (0.5, 0.5, 0)
    assert row.float_sqnr_db is None and row.program == row.local


def test_what_cannot_be_compared_is_one_line(built: Built, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.png does not exist or is not a file"):
        diverge(built.out / "onnx", tmp_path / "nowhere.png")
    with pytest.raises(InputError, match=r"is not a bundle: it has no manifest\.json"):
        diverge(tmp_path, _photograph(built))
    bundle = _copy(built, "onnx", tmp_path)
    (bundle / PROGRAM_NAME).unlink()
    with pytest.raises(InputError, match=rf"{PROGRAM_NAME} does not exist"):
        diverge(bundle, _photograph(built))
    shutil.copy(built.out / "executorch" / PROGRAM_NAME, bundle)
    with pytest.raises(InputError, match=f"changed: {PROGRAM_NAME}"):
        diverge(bundle, _photograph(built))
    with pytest.raises(InputError, match=r"layer 1 \(stem\.1\) is stored as float, expected integers"):
        diverge(_sign(bundle), _photograph(built))
    torch.export.save(trace(torch.nn.Conv2d(3, 2, 3).eval(), torch.zeros(1, 3, 64, 64)), bundle / PROGRAM_NAME)
    with pytest.raises(InputError, match=rf"does not match its program: it has {LAYERS} layers, expected 1"):
        diverge(_sign(bundle), _photograph(built))
