"""What differs between two programs, compared by the values that they state."""

from __future__ import annotations

from dataclasses import replace

import torch

from levit_edge.bundle.manifest import PROGRAM_NAME
from levit_edge.pipeline.diff_program import compare_parameters, compare_programs
from quantize.flow import trace
from targets.program.parameters import parameters
from tests.levit_edge.pipeline.conftest import Built
from tests.programs import micro, quantized


def test_two_readings_of_a_program_are_equal(built: Built) -> None:
    program = built.out / "coreml" / PROGRAM_NAME
    found = compare_programs(program, program)
    assert (found.scales, found.constants, found.layers_before, found.layers_after) == ((), (), (), ())


def test_a_program_of_another_recipe_has_other_types_and_no_scales() -> None:
    found = compare_parameters(parameters(quantized("coreml")), parameters(micro().program))
    stored = parameters(quantized("coreml")).activations
    assert {(row.layer, row.tensor) for row in found.scales} == set(stored)
    assert all(row.scale_after is None and row.ratio is None for row in found.scales)
    head = next(row for row in found.constants if (row.layer, row.constant) == ("head", "weight"))
    assert (head.before, head.after, head.differing_share) == ("int8 [3, 64]", "float32 [3, 64]", None)


def test_a_layer_of_one_side_is_named_and_nothing_of_it_is_compared() -> None:
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Conv2d(3, 3, 1), torch.nn.Conv2d(3, 3, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(image))

    both = Two().eval()
    one = Two().eval()
    one.load_state_dict(both.state_dict())
    one.second = torch.nn.Identity()  # type: ignore[assignment]
    before, after = (parameters(trace(model, torch.zeros(1, 3, 4, 4))) for model in (both, one))
    found = compare_parameters(before, after)
    assert (found.layers_before, found.layers_after, found.constants) == (("second",), (), ())
    assert compare_parameters(after, before).layers_after == ("second",)


def test_an_accumulator_that_only_follows_its_scale_is_no_difference() -> None:
    """Another input scale gives another int32 bias for the same real one."""
    healthy = parameters(quantized("onnx"))
    key = ("blocks.0.q", "bias")
    bias = healthy.constants[key]
    assert bias.dtype == "int32" and bias.scale is not None
    finer = type(bias)(bias.values * 2, bias.dtype, bias.scale / 2)
    shifted = type(bias)(bias.values + 2, bias.dtype, bias.scale)
    large = type(bias)(bias.values * 0 + 2**27, bias.dtype, bias.scale)  # float32 keeps 24 of these 27 bits
    rounded, wrong = (type(bias)(large.values + far, bias.dtype, bias.scale) for far in (16, 64))
    for old, changed, share in ((bias, finer, None), (bias, shifted, 1), (large, rounded, None), (large, wrong, 1)):
        one = type(healthy)(healthy.layers, healthy.activations, {**healthy.constants, key: old})
        other = type(healthy)(healthy.layers, healthy.activations, {**healthy.constants, key: changed})
        rows = compare_parameters(one, other).constants
        assert [row.differing_share for row in rows] == ([] if share is None else [share])


def test_the_largest_change_of_a_scale_comes_first() -> None:
    healthy = parameters(quantized("executorch"))
    keys = list(healthy.activations)[:4]
    changed = dict(healthy.activations)
    for key, factor, shift in zip(keys, (1.5, 0.1, 1, 1), (0, 0, 3, 5), strict=True):
        old = changed[key]
        changed[key] = replace(old, scale=old.scale * factor, zero_point=old.zero_point + shift)
    gone = list(healthy.activations)[4]
    del changed[gone]
    zero = list(healthy.activations)[5]
    changed[zero] = replace(changed[zero], scale=0.0)
    rows = compare_parameters(healthy, type(healthy)(healthy.layers, changed, healthy.constants)).scales
    assert [(row.layer, row.tensor) for row in rows] == [gone, zero, keys[1], keys[0], keys[3], keys[2]]
