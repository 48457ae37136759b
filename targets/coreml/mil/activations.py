"""Activation functions. Source: coremltools 9, MIL operator reference, ``activation``."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from targets.coreml.mil.operator import Operator

_GELU_MODES = ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")
_SIGMOID_GELU = 1.702


def relu(x: Tensor) -> Tensor:
    """``max(x, 0)``."""
    return torch.relu(x)


def relu6(x: Tensor) -> Tensor:
    """``min(max(x, 0), 6)``."""
    return torch.clamp(x, 0, 6)


def leaky_relu(x: Tensor, alpha: float) -> Tensor:
    """``x`` where ``x >= 0``, else ``alpha * x``."""
    return torch.where(x >= 0, x, alpha * x)


def thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    """``x`` where ``x >= alpha``, else 0; NaN stays NaN."""
    below = float(np.nextafter(np.float32(alpha), np.float32(-np.inf)))  # torch keeps what is above, not what is equal
    return F.threshold(x, below, 0.0)


def clamped_relu(x: Tensor, alpha: float, beta: float) -> Tensor:
    """``min(beta, x)`` where ``x >= 0``, else ``min(beta, alpha * x)``."""
    return torch.clamp(torch.where(x >= 0, x, alpha * x), max=beta)


def elu(x: Tensor, alpha: float) -> Tensor:
    """``x`` where ``x > 0``, else ``alpha * (exp(x) - 1)``."""
    return torch.where(x > 0, x, alpha * torch.expm1(x))


def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    """The Gaussian error linear unit, or one of its two approximations."""
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(_SIGMOID_GELU * x)
    return F.gelu(x, approximate="tanh" if mode == "TANH_APPROXIMATION" else "none")


def linear_activation(x: Tensor, alpha: float, beta: float) -> Tensor:
    """``alpha * x + beta``."""
    return torch.mul(x, alpha).add_(beta)


def scaled_tanh(x: Tensor, alpha: float, beta: float) -> Tensor:
    """``alpha * tanh(beta * x)``."""
    return alpha * torch.tanh(beta * x)


def sigmoid(x: Tensor) -> Tensor:
    """``1 / (1 + exp(-x))``."""
    return torch.sigmoid(x)


def sigmoid_hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    """``min(max(alpha * x + beta, 0), 1)``."""
    return F.hardtanh_(torch.mul(x, alpha).add_(beta), 0.0, 1.0)


def silu(x: Tensor) -> Tensor:
    """``x * sigmoid(x)``."""
    return x * torch.sigmoid(x)


def softplus(x: Tensor) -> Tensor:
    """``log(1 + exp(x))``."""
    return F.softplus(x)


def softsign(x: Tensor) -> Tensor:
    """``x / (1 + |x|)``."""
    return F.softsign(x)


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """``exp(x) / sum(exp(x))`` along ``axis``."""
    return torch.softmax(x, dim=axis)


OPERATORS: dict[str, Operator] = {
    "relu": Operator(relu, exact=True),
    "relu6": Operator(relu6, exact=True),
    "leaky_relu": Operator(leaky_relu),
    "thresholded_relu": Operator(thresholded_relu, exact=True),
    "clamped_relu": Operator(clamped_relu),
    "elu": Operator(elu),
    "gelu": Operator(gelu, allowed={"mode": _GELU_MODES}),
    "linear_activation": Operator(linear_activation),
    "scaled_tanh": Operator(scaled_tanh),
    "sigmoid": Operator(sigmoid),
    "sigmoid_hard": Operator(sigmoid_hard),
    "silu": Operator(silu),
    "softplus": Operator(softplus),
    "softsign": Operator(softsign),
    "softmax": Operator(softmax),
}
