"""The factor of each group of channels: what makes wide channels as wide as the others without ruining the weights.

The factor is the square root of how much wider a channel is than its neighbours, over how much larger the weights are
that read it (Nagel et al. 2019, arXiv:1906.04721, section 4.1; Xiao et al. 2023, arXiv:2211.10438, equation 4 with
alpha = 1/2). Both sides have 8 bits, and a wide column takes them from the other columns of its row just as a wide
channel takes them from the other channels. A checkpoint in which a channel was scaled by any factor, and its readers by
the inverse, gets the factor that undoes it, because that moves both widths by the same amount.

Factors are used where they at least halve the rounding error that is expected of all sums over these channels. The
expectation knows nothing of clipping, nor of errors that cancel, so that a smaller gain may be none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from quantize.channels import FIXED, of_group

LEAST_GAIN = 2.0
_LEAST_WIDTH = 2.0**-64  # against a typical channel; a narrower one is dead
_TINY = 2.0**-500


@dataclass(frozen=True)
class Side:
    """One operand of a sum over channels: the ``peak`` and the mean ``square`` of each channel, float64 [rows, J].

    Each row is stored with a scale of its own.
    """

    peak: Tensor
    square: Tensor

    @property
    def widths(self) -> Tensor:
        """How many powers of two each channel is wider than a typical one, in the row where it is widest: [J]."""
        widest = (self.peak / self._energy.sqrt()).amax(0)
        alive = widest[widest > 0]
        if not len(alive):
            return torch.zeros_like(widest)
        return (widest / alive.median()).clamp_min(_LEAST_WIDTH).log2()

    @property
    def shares(self) -> Tensor:
        """The energy of each channel against the average one, over all rows: [J]."""
        return (self.square / self._energy).mean(0)

    def step(self, factors: Tensor) -> Tensor:
        """The squared step of an integer against the energy of its row, over all rows, with ``factors`` [J]: a scalar.

        Without what all steps have in common: how many there are.
        """
        return ((self.peak * factors).amax(1, keepdim=True).square() / self._energy).mean()

    @property
    def _energy(self) -> Tensor:
        return self.square.mean(1, keepdim=True).clamp_min(_TINY)  # [rows, 1]


@dataclass(frozen=True)
class Sum:
    """A sum over channels: ``left`` is divided by their factors, ``right`` multiplied. ``signs`` of -1 invert them.

    ``groups`` and ``signs`` are int64 [J], as in :class:`quantize.channels.Channels`.
    """

    groups: Tensor
    signs: Tensor
    left: Side
    right: Side

    def expected_error(self, factors: Tensor) -> float:
        """The squared rounding error against the squared sum, but for a constant, with ``factors`` [groups].

        Every error is taken for noise as wide as a step that is independent of all others.
        """
        found = of_group(factors, self.groups) ** self.signs
        left, right = self.left.shares, self.right.shares
        error = self.left.step(1 / found) * (right * found.square()).sum()
        error += self.right.step(found) * (left / found.square()).sum()
        return float(error / (left * right).sum().clamp_min(_TINY))


def channel_factors(sums: Sequence[Sum], count: int) -> Tensor:
    """A power of two for each of ``count`` groups: float64 [count], 1 for all that have little to gain."""
    factors, found = torch.exp2(_exponents(sums, count)), torch.ones(count, dtype=torch.float64)
    for groups, part in _parts(sums):
        before, after = (sum(one.expected_error(which) for one in part) for which in (found, factors))
        if after * LEAST_GAIN <= before:
            found[groups] = factors[groups]
    return found


def _exponents(sums: Sequence[Sum], count: int) -> Tensor:
    """What balances both sides of all sums: whole float64 [count]. Of several sums the widest counts.

    No channel becomes narrower than a typical one, nor do the weights that read it: that would gain nothing.
    """
    groups = torch.cat([one.groups for one in sums])
    free = groups != FIXED
    signs = torch.cat([one.signs for one in sums])
    left, right = (torch.cat([getattr(one, side).widths for one in sums]) for side in ("left", "right"))
    divided, multiplied = torch.where(signs > 0, left, right), torch.where(signs > 0, right, left)
    zeros = torch.zeros(count, dtype=torch.float64)
    wide, met = (
        zeros.scatter_reduce(0, groups[free], side[free], "amax", include_self=False) for side in (divided, multiplied)
    )
    return ((wide - met) / 2).clamp((-met).clamp(max=0), wide.clamp(min=0)).round()


def _parts(sums: Sequence[Sum]) -> Iterator[tuple[Tensor, list[Sum]]]:
    """The groups that sums have in common, directly or through other sums, with these sums."""
    parts: list[tuple[set[int], list[Sum]]] = []
    for one in sums:
        groups = set(one.groups.tolist()) - {FIXED}
        near = [part for part in parts if part[0] & groups]
        parts = [part for part in parts if not part[0] & groups]
        parts.append((groups.union(*(g for g, _ in near)), [*(s for _, some in near for s in some), one]))
    return ((torch.tensor(sorted(groups)), part) for groups, part in parts if groups)
