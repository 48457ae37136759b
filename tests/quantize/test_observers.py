"""Scales that were chosen from histograms and weights, against brute force on the numbers themselves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from quantize.observers import (
    INTEGER_BIAS_MAX,
    ActivationObserver,
    PerChannelWeightObserver,
    bias_floor,
    weight_scale,
)
from quantize.ranges import QParams, RangeMethod, affine
from targets.registry import TARGETS
from tests.programs import FULL, QUANTIZE, micro, quantized

TENSORS = ("conv2d_2", "linear_4", "linear_12", "hardswish_4")


class _Recorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, list[Tensor]] = {}

    def run_node(self, n: fx.Node) -> object:
        value = super().run_node(n)
        if n.name in TENSORS:
            assert isinstance(value, Tensor)
            self.values.setdefault(n.name, []).append(value.flatten())
        return value


@pytest.fixture(scope="module")
def recorded() -> dict[str, NDArray[np.float64]]:
    """Every value of TENSORS over the calibration images."""
    recorder = _Recorder(micro().program.module())
    for image in micro().calibration.split(1):
        recorder.run(image)
    return {name: torch.cat(values).double().numpy() for name, values in recorder.values.items()}


def _error(values: NDArray[np.float64], chosen: QParams, low: int, high: int) -> float:
    integers = np.clip(np.rint(values / chosen.scale) + chosen.zero_point, low, high)
    return float(np.square((integers - chosen.zero_point) * chosen.scale - values).sum())


def _in_program(name: str, tensor: str) -> QParams:
    (node,) = (n for n in quantized(name).module().graph.nodes if n.name == tensor)
    (found,) = (user for user in node.users if user.target == QUANTIZE)
    scale, zero_point = found.args[1:3]
    assert isinstance(scale, float) and isinstance(zero_point, int)
    return QParams(scale, zero_point)


@pytest.mark.parametrize("tensor", TENSORS)
def test_an_activation_has_the_parameters_that_brute_force_finds(
    tensor: str, recorded: dict[str, NDArray[np.float64]]
) -> None:
    assert FULL.activation_range == "mse"
    values, scheme = recorded[tensor], TARGETS["executorch"].scheme
    bounds = (scheme.quant_min, scheme.quant_max)
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    fractions = np.linspace(0.4, 1.0, 61)
    best = min(
        _error(values, affine(low * f, high * g, *bounds), *bounds) for f, g in itertools.product(fractions, fractions)
    )
    chosen = _in_program("executorch", tensor)
    assert _error(values, chosen, *bounds) <= 1.02 * best
    assert low - chosen.scale <= (bounds[0] - chosen.zero_point) * chosen.scale <= 0
    assert 0 <= (bounds[1] - chosen.zero_point) * chosen.scale <= 1.06 * high + chosen.scale


def test_minmax_covers_exactly_what_was_seen(recorded: dict[str, NDArray[np.float64]]) -> None:
    observer = ActivationObserver(torch.uint8, 0, 255, torch.per_tensor_affine)
    observer.histogram, observer.method = micro().histograms["linear_4"], "minmax"
    scale, zero_point = observer.calculate_qparams()
    low, high = recorded["linear_4"].min(), recorded["linear_4"].max()
    assert float(scale) == pytest.approx((high - low) / 255, rel=1e-6)
    assert int(zero_point) == round(-low / ((high - low) / 255))


def test_observers_do_not_answer_before_they_were_told() -> None:
    with pytest.raises(RuntimeError, match="no histogram"):
        ActivationObserver(torch.uint8, 0, 255, torch.per_tensor_affine).calculate_qparams()
    spec = {"dtype": torch.int8, "quant_min": -127, "quant_max": 127, "qscheme": torch.per_channel_symmetric}
    with pytest.raises(RuntimeError, match="weight was not handed over"):
        PerChannelWeightObserver(0, **spec).calculate_qparams()


def _weight(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) ** 3  # heavy tails


@pytest.mark.parametrize("shape", [(5, 300), (5, 3, 3, 3)])
def test_a_weight_scale_is_the_peak_or_the_least_error(shape: tuple[int, ...]) -> None:
    weight = _weight(*shape)
    rows = weight.double().flatten(1).numpy()
    peaks = np.abs(rows).max(axis=1)
    assert weight_scale(weight, "minmax").numpy() == pytest.approx(peaks / 127, rel=1e-6)
    for row, peak, chosen in zip(rows, peaks, weight_scale(weight, "mse").tolist(), strict=True):
        candidates = [QParams(peak * fraction / 127, 0) for fraction in np.linspace(0.5, 1, 51)]
        best = min(_error(row, candidate, -127, 127) for candidate in candidates)
        assert _error(row, QParams(chosen, 0), -127, 127) <= 1.0001 * best


@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_a_channel_without_weights_has_a_scale(method: RangeMethod) -> None:
    scale = weight_scale(torch.zeros(3, 4), method)
    assert bool((scale > 0).all()) and bool(torch.isfinite(scale).all())


def test_the_floor_is_where_the_integer_bias_reaches_its_limit() -> None:
    bias = torch.tensor([0.0, 1.0, -2.0])
    floor = bias_floor(bias, 0.5)
    assert floor[0] == 0
    assert (bias[1:].abs() / (0.5 * floor[1:])).tolist() == pytest.approx([INTEGER_BIAS_MAX] * 2)


def test_the_floor_raises_only_scales_below_it() -> None:
    spec = {"dtype": torch.int8, "quant_min": -127, "quant_max": 127, "qscheme": torch.per_channel_symmetric}
    observer = PerChannelWeightObserver(0, **spec)
    observer.weight, observer.method = torch.tensor([[1.27], [0.0127]]), "minmax"
    observer.floor = torch.tensor([0.001, 0.001])
    scale, zero_point = observer.calculate_qparams()
    assert scale.tolist() == pytest.approx([0.01, 0.001]) and zero_point.tolist() == [0, 0]
