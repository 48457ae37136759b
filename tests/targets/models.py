"""What the tests of all targets share: run a model file, count its operators, damage it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from levit_edge.report.answers import Precision
from quantize.flow import calibrate, quantize, trace
from quantize.recipes import RECIPES
from targets.registry import TARGETS
from targets.runner import Runner
from targets.target import Contents
from tests.programs import FULL, micro

CASES = [
    (name, recipe.name)
    for name, target in TARGETS.items()
    for recipe in RECIPES.values()
    if target.float16 or not recipe.needs_float16
]
FLOAT_TOLERANCE = 1e-4
INTEGER_SQNR_DB = 25.0
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "garbage": lambda data: b"hello" * 1000,
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "without its end": lambda data: data[:-100],
}


def logits(runner: Runner) -> NDArray[np.float32]:
    """The answers to the held-out images, one by one."""
    return np.concatenate([runner(image.numpy()) for image in micro().images.split(1)])


def kinds(contents: Contents, precision: Precision) -> Counter[str]:
    """Number of operators of ``precision`` by name."""
    found: Counter[str] = Counter()
    for row in contents.operators:
        if row.precision == precision:
            found[row.name] += row.count
    return found


def same_for_any_strides(runner: Runner) -> bool:
    """True when the memory layout of the image changes nothing."""
    image = micro().images[:1].numpy()
    strided = np.asfortranarray(image)
    sliced = np.repeat(image, 2, axis=3)[:, :, :, ::2]
    assert not strided.flags.c_contiguous and not sliced.flags.c_contiguous
    return all(np.array_equal(runner(image), runner(other)) for other in (strided, sliced))


def vanishing_weights(name: str, path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(float, model file) for two layers of which one channel has weights of 1e-9 beside a bias of 1."""
    generator = torch.Generator().manual_seed(0)
    first, second = nn.Linear(8, 8), nn.Linear(8, 3)
    with torch.no_grad():
        for tensor in (*first.parameters(), *second.parameters()):
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
        first.weight[0], first.bias[0], second.weight[:, 0] = 1e-9, 1.0, 2.0
    model = nn.Sequential(first, nn.Hardswish(), second).eval().requires_grad_(False)
    images: Tensor = torch.randn(16, 8, generator=generator)
    program = trace(model, images[:1])
    histograms = calibrate(program, [images])
    target = TARGETS[name]
    target.backend.lower(quantize(program, images[:1], FULL, target.scheme, histograms), path, False)
    runner = target.backend.load(path, 1)
    return model(images).numpy(), np.concatenate([runner(image.numpy()) for image in images.split(1)])
