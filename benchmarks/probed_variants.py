"""A published architecture with weights that make sense of photographs, without training it.

No checkpoint of the larger variants is part of this project. Their weights are random here, the BatchNorm statistics
those of real images, and the head is a ridge regression from the features of labelled images to their classes. Such a
model has the shapes, the depth and the value distributions of its variant, but not the accuracy of a trained one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from levit_edge.families.levit.model import Levit
from levit_edge.families.load import random_checkpoint

PROBE_IMAGES, STATISTICS_IMAGES = 500, 128
RIDGE = 0.1  # against the variance of a feature, which is about 1


def probed(variant: str, labels: Sequence[str], batches: Sequence[Tensor], classes: Tensor) -> Levit:
    """``variant`` with BatchNorm statistics and a head from ``batches`` float32 [B, C, H, W], whose ``classes`` [N].

    Both heads are the same.
    """
    model = random_checkpoint(variant, labels).model
    assert isinstance(model, Levit)
    with torch.no_grad():
        _set_statistics(model, torch.cat(tuple(batches))[:STATISTICS_IMAGES])
        features = torch.cat([model(batch).pooled for batch in batches])  # [N, C]
        for head in model.heads:
            weight, bias = _ridge(head.norm(features), classes, len(labels))
            head.linear.weight.copy_(weight)
            head.linear.bias.copy_(bias)
    return model


def _set_statistics(model: Levit, images: Tensor) -> None:
    """The mean and variance of every BatchNorm over ``images``, layer by layer in one pass."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the average over all that it sees
        norm.training = True
    model(images)
    for norm in norms:
        norm.training = False


def _ridge(features: Tensor, classes: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Weight [classes, C] and bias [classes] of the regression from ``features`` [N, C] to one-hot ``classes`` [N]."""
    x, y = features.double(), nn.functional.one_hot(classes, count).double()
    mean, answer = x.mean(0), y.mean(0)
    centred = x - mean
    gram = centred.T @ centred + RIDGE * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    weight = torch.linalg.solve(gram, centred.T @ (y - answer)).T
    return weight.float(), (answer - weight @ mean).float()
