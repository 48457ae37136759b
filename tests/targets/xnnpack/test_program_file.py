"""A ``.pte`` taken apart and put together again: every number keeps every bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from levit_edge.errors import InputError
from quantize.flow import trace
from targets.program import replay
from targets.xnnpack.contents import contents
from targets.xnnpack.program_file import ProgramFile, read_program, tensor_of
from targets.xnnpack.run import XnnpackRunner
from targets.xnnpack.tap import tap, write_tapped
from tests.programs import FULL, micro, quantized
from tests.targets.conftest import Written

IMAGE = micro().images[:1].numpy()


def plain(entry: Any) -> Any:
    """Objects of the schema as dicts and lists, and floats as their bits."""
    if isinstance(entry, list):
        return [plain(item) for item in entry]
    if isinstance(entry, np.ndarray):
        return (str(entry.dtype), entry.tobytes())
    if isinstance(entry, float):
        return entry.hex()
    return {name: plain(item) for name, item in vars(entry).items()} if hasattr(entry, "__dict__") else entry


@pytest.mark.parametrize("recipe", ["int8", "fp32"])
def test_a_program_that_is_written_again_is_the_same(recipe: str, written: Written, tmp_path: Path) -> None:
    path, copy = written("executorch", recipe), tmp_path / "again.pte"
    program = read_program(path)
    program.write(copy)
    (before,), (after,) = program.payloads, read_program(copy).payloads
    assert plain(before.graph) == plain(after.graph) and before.constants == after.constants
    assert np.array_equal(XnnpackRunner(path, 1)(IMAGE), XnnpackRunner(copy, 1)(IMAGE))


def parameters(program: ProgramFile) -> list[Any]:
    """Scale and zero point of every tensor that has one of each."""
    found = [getattr(value.xvalueUnion, "quantParams", None) for value in program.payloads[0].graph.xvalues]
    return [entry for entry in found if hasattr(entry, "zeroPoint")]


def test_scales_are_read_with_every_bit(written: Written) -> None:
    scales = {entry.scale for entry in parameters(read_program(written("executorch", FULL.name)))}
    layers = replay.tap(quantized("executorch"), IMAGE)
    assert {float(np.float32(layer.affine.scale)) for layer in layers if layer.affine is not None} <= scales


def test_a_scale_with_many_decimals_is_written_with_every_bit(written: Written, tmp_path: Path) -> None:
    program, tiny = read_program(written("executorch", FULL.name)), float(np.float32(1.2345678e-9))
    parameters(program)[0].scale = tiny
    program.write(tmp_path / "tiny.pte")
    assert parameters(read_program(tmp_path / "tiny.pte"))[0].scale == tiny


def test_the_tapped_copy_differs_in_its_outputs_alone(written: Written, tmp_path: Path) -> None:
    path, copy = written("executorch", FULL.name), tmp_path / "tapped.pte"
    layers = write_tapped(path, copy)
    assert contents(copy) == contents(path)
    before, after = read_program(path), read_program(copy)
    assert len(after.plan.outputs) == len(before.plan.outputs) + len(layers) and all(layer.added for layer in layers)
    shown = {tensor_of(layer.value).idOut for layer in layers}
    for program in (before, after):
        graph = program.payloads[0].graph
        graph.numExterns = None
        for tensor in map(tensor_of, graph.xvalues):
            if tensor.idOut in shown:
                tensor.flags = tensor.externalId = None
    assert plain(before.payloads[0].graph) == plain(after.payloads[0].graph)
    assert before.payloads[0].constants == after.payloads[0].constants


def test_a_program_outside_the_delegate_is_refused(tmp_path: Path) -> None:
    from executorch.exir import to_edge_transform_and_lower

    path, image = tmp_path / "model.pte", torch.zeros(1, 4)
    model = torch.nn.Linear(4, 2).eval().requires_grad_(False)
    path.write_bytes(to_edge_transform_and_lower(trace(model, image)).to_executorch().buffer)
    with pytest.raises(InputError, match=r"model\.pte is not one XNNPACK delegate: it has 0; build it again"):
        tap(path, image.numpy())
    found = contents(path)
    assert found.delegates == 0 and found.fallback_ops == sum(row.count for row in found.operators) > 0


def test_a_delegate_of_something_else_is_refused(written: Written, tmp_path: Path) -> None:
    path, data = tmp_path / "model.pte", written("executorch", "fp32").read_bytes()
    assert data.count(b"XH00") == 1
    path.write_bytes(data.replace(b"XH00", b"YH00"))
    for read in (contents, lambda path: tap(path, IMAGE)):
        with pytest.raises(
            InputError, match=r"model\.pte is not a program for XNNPACK alone: .*invalid magic"
        ) as caught:
            read(path)
        assert "\n" not in str(caught.value)
