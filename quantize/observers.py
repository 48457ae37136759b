"""The two PT2E observers: one chooses the range of an activation from its histogram, one that of a weight.

Neither needs the prepared program to run: the quantizer hands them a histogram or a weight before the conversion.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchao.quantization.pt2e import ObserverBase

from quantize.ranges import Operator, QParams, RangeMethod, choose
from quantize.statistics import Histogram

WEIGHT_MAX = 127
TINY = 2.0**-100  # below it a scale would not be a normal float32
INTEGER_BIAS_MAX = 2.0**30  # half of int32; the other half is for the products that are added to it
_WEIGHT_FRACTIONS = torch.linspace(0.5, 1.0, 51, dtype=torch.float64)


class _PresetObserver(ObserverBase):
    def __init__(
        self, dtype: torch.dtype, quant_min: int, quant_max: int, qscheme: torch.qscheme, is_dynamic: bool = False
    ) -> None:
        super().__init__(dtype, is_dynamic)
        self.quant_min, self.quant_max, self.qscheme = quant_min, quant_max, qscheme

    def forward(self, x: Tensor) -> Tensor:
        return x


class ActivationObserver(_PresetObserver):
    """Per-tensor affine parameters: ``fixed``, or else chosen from ``histogram``, by the error ``behind`` if given."""

    method: RangeMethod = "mse"
    histogram: Histogram | None = None
    behind: Operator | None = None
    fixed: QParams | None = None

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """(scale float32 [1], zero point int64 [1])."""
        if self.fixed is None:
            if self.histogram is None:
                raise RuntimeError("an annotated tensor has no histogram")
            self.fixed = choose(self.histogram, self.method, self.quant_min, self.quant_max, self.behind)
        return torch.tensor([self.fixed.scale]), torch.tensor([self.fixed.zero_point])


def weight_scale(weight: Tensor, method: RangeMethod) -> Tensor:
    """Symmetric scale of each output channel (axis 0) of ``weight`` [C_out, ...]: float32 [C_out].

    ``minmax`` covers the largest weight; ``mse`` takes the clipped range with the least squared error.
    """
    rows = weight.detach().double().flatten(1)  # [C_out, fan_in]
    peak = rows.abs().amax(dim=1)
    peak = torch.where(peak > 0, peak, torch.ones_like(peak)).clamp_min(TINY)
    if method == "minmax":
        return (peak / WEIGHT_MAX).float()
    best, least = peak / WEIGHT_MAX, torch.full_like(peak, torch.inf)
    for fraction in _WEIGHT_FRACTIONS:
        scale = peak * fraction / WEIGHT_MAX
        rounded = torch.clamp(torch.round(rows / scale[:, None]), -WEIGHT_MAX, WEIGHT_MAX) * scale[:, None]
        error = (rounded - rows).square().sum(dim=1)
        best, least = torch.where(error <= least, scale, best), torch.minimum(error, least)
    return best.float()


def bias_floor(bias: Tensor, activation_scale: float) -> Tensor:
    """The least scale of each channel's weights for which its integer bias fits: float32 [C_out].

    Integer kernels add ``bias / (s_x * s_w)`` as int32. Folding a BatchNorm can leave a channel whose weights are
    nearly zero and whose bias is not; a scale that suits such weights makes the bias overflow without a warning.
    """
    return (bias.detach().abs() / (activation_scale * INTEGER_BIAS_MAX)).float()


class PerChannelWeightObserver(_PresetObserver):
    """Per-channel symmetric parameters of ``weight`` (axis 0).

    ``floor`` [C_out] is the least scale of each channel; see :func:`bias_floor`.
    """

    method: RangeMethod = "mse"
    weight: Tensor | None = None
    floor: Tensor | None = None

    def __init__(self, ch_axis: int, **spec: object) -> None:
        super().__init__(**spec)  # type: ignore[arg-type]  # PT2E passes the fields of QuantizationSpec
        self.ch_axis = ch_axis

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """(scale float32 [C_out], zero point int64 [C_out], all 0)."""
        if self.weight is None:
            raise RuntimeError("the weight was not handed over")
        scale = weight_scale(self.weight, self.method)
        if self.floor is not None:
            scale = torch.maximum(scale, self.floor)
        return scale, torch.zeros_like(scale, dtype=torch.int64)
