"""Activation functions. Source: coremltools 9, MIL operator reference, ``activation``."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from targets.coreml.mil.operator import Operator


def relu(x: Tensor) -> Tensor:
    """``max(x, 0)``."""
    return torch.relu(x)


def thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    """``x`` where ``x >= alpha``, else 0; NaN stays NaN."""
    below = float(np.nextafter(np.float32(alpha), np.float32(-np.inf)))  # torch keeps only what lies above its limit
    return F.threshold(x, below, 0.0)


def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    """The Gaussian error linear unit, exact or approximated with tanh."""
    return F.gelu(x, approximate="tanh" if mode == "TANH_APPROXIMATION" else "none")


def sigmoid_hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    """``min(max(alpha * x + beta, 0), 1)``."""
    return F.hardtanh_(torch.mul(x, alpha).add_(beta), 0.0, 1.0)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return torch.tanh(x)


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """``exp(x) / sum(exp(x))`` along ``axis``."""
    return torch.softmax(x, dim=axis)


OPERATORS: dict[str, Operator] = {
    "relu": Operator(relu, exact=True),
    "thresholded_relu": Operator(thresholded_relu, exact=True),
    "gelu": Operator(gelu, allowed={"mode": ("EXACT", "TANH_APPROXIMATION")}),
    "sigmoid_hard": Operator(sigmoid_hard),
    "tanh": Operator(tanh),
    "softmax": Operator(softmax),
}
