"""One histogram for each tensor of the program, gathered once over the calibration images for all targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

BINS = 1 << 14

See = Callable[[Tensor], None]


@dataclass
class Histogram:
    """Counts over [-limit, limit) in BINS equal bins, each without its upper edge; ``limit`` is a power of two.

    When a value falls outside, the limit doubles and pairs of bins merge. That moves no count across an edge, so the
    result does not depend on the order of the images.
    """

    counts: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))
    limit: float = 2.0**-20
    minimum: float = float("inf")
    maximum: float = float("-inf")

    def add(self, values: Tensor) -> None:
        """Count every element of ``values`` (float, any shape). Raises ValueError on NaN or infinity."""
        values = values.float()
        low, high = (float(bound) for bound in torch.aminmax(values))
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError("a calibration image makes the model produce NaN or infinity")
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        while -low > self.limit or high >= self.limit:
            self._double()
        # histc rounds ``value - lower edge``, which moves values close to an edge; a power of two and a floor do not.
        bins = torch.floor(values * (BINS / 2 / self.limit))
        self.counts = self.counts + torch.histc(bins, BINS, -BINS / 2, BINS / 2).double().numpy()

    def _double(self) -> None:
        merged = np.zeros(BINS)
        merged[BINS // 4 : BINS * 3 // 4] = self.counts[0::2] + self.counts[1::2]
        self.counts, self.limit = merged, self.limit * 2

    def scaled(self, factor: float) -> Histogram:
        """The histogram of the values times a positive ``factor``; it can no longer be merged with others."""
        return Histogram(self.counts, self.limit * factor, self.minimum * factor, self.maximum * factor)

    def occupied(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Centres and counts of the bins that hold anything: two float64 [k]."""
        used = np.flatnonzero(self.counts)
        return (used.astype(np.float64) + 0.5) * (2 * self.limit / BINS) - self.limit, self.counts[used]


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """One histogram of everything in ``histograms``."""
    parts = list(histograms)
    total = Histogram(limit=max(part.limit for part in parts))
    for part in parts:
        copy = Histogram(part.counts, part.limit, part.minimum, part.maximum)
        while copy.limit < total.limit:
            copy._double()
        total.counts = total.counts + copy.counts
        total.minimum, total.maximum = min(total.minimum, part.minimum), max(total.maximum, part.maximum)
    return total


class _Viewer(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, see: Mapping[str, Sequence[See]]) -> None:
        super().__init__(module)
        self._see = see

    def run_node(self, n: fx.Node) -> object:
        value = super().run_node(n)
        for see in self._see.get(n.name, ()):
            assert isinstance(value, Tensor)
            see(value)
        return value


def show(module: fx.GraphModule, see: Mapping[str, Sequence[See]], batches: Iterable[Tensor]) -> int:
    """Hand the value of each named node to its functions, image by image; returns the number of images.

    ``batches`` are float32 [B, C, H, W].
    """
    viewer, images = _Viewer(module, see), 0
    with torch.no_grad():
        for batch in batches:
            images += len(batch)
            for image in batch.split(1):
                viewer.run(image)
    return images


def observe(module: fx.GraphModule, names: Iterable[str], batches: Iterable[Tensor]) -> Mapping[str, Histogram]:
    """Histograms of the named nodes of ``module`` over ``batches`` (float32 [B, C, H, W], run one image at a time).

    Raises ValueError when a name is no node of ``module``, or there are no images.
    """
    histograms = {name: Histogram() for name in names}
    if not show(module, {name: [histogram.add] for name, histogram in histograms.items()}, batches):
        raise ValueError("no calibration image was given")
    unseen = [name for name, histogram in histograms.items() if not histogram.counts.any()]
    if unseen:
        raise ValueError(f"no calibration image gave a value of {', '.join(unseen)}")
    return histograms
