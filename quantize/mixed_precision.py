"""Mixed precision: the cheapest tensors to keep float so that the logits reach a signal to noise ratio.

The search is greedy. Each step keeps the tensor float that removes most noise for what it costs, and prepares the
program again with it, so the ratio behind each step is measured and not predicted. (Skipping the most sensitive layers
one after the other is partial quantization: Wu et al. 2020, arXiv:2004.09602, section 6.1. What is added here is the
cost.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from levit_edge.errors import InputError
from levit_edge.metrics.sqnr import decibels
from quantize.flow import prepare
from quantize.names import producer, readers
from quantize.recipes import Recipe
from quantize.roles import LAYERS, is_convolution, is_layer, role
from quantize.scheme import Role, Scheme
from quantize.sensitivity import StoredTensor, SwitchedProgram
from quantize.statistics import Histogram

# On an emulated Cortex-A76 a float multiply-add takes a quarter of an instruction more than one in int8, and a value
# that becomes float takes two to four: about ten times as much.
VALUE_COST = 10
# A step removes at least this share of the noise that is still too much, so that there are not many of them.
LEAST_SHARE = 0.05
REFRESHED = 6  # candidates that are judged again after each step; the others keep what they removed before
_ONE_SIDED_95 = 1.645


@dataclass(frozen=True)
class Estimate:
    """SQNR of the logits over some images in dB, and the lower end of its one-sided 95 % interval.

    ``noise`` is the summed squared error.
    """

    sqnr_db: float
    at_least_db: float
    noise: float

    @classmethod
    def of(cls, signal: Tensor, noise: Tensor) -> Estimate:
        """From the squared logits and errors of each image, float64 [images].

        The interval is that of a ratio of two sums over images (Cochran 1977, Sampling Techniques, section 2.11).
        """
        total, ratio = float(noise.sum()), float(noise.sum() / signal.sum())
        sqnr_db = decibels(float(signal.sum()), total)
        if len(noise) < 2 or total == 0:
            return cls(sqnr_db, sqnr_db if total == 0 else -math.inf, total)
        variance = float((noise - ratio * signal).square().sum()) * len(noise) / (len(noise) - 1)
        return cls(sqnr_db, sqnr_db - 10 * math.log10(1 + _ONE_SIDED_95 * math.sqrt(variance) / total), total)


@dataclass(frozen=True)
class Step:
    """One more tensor that stays float, by name, and the estimate with it.

    ``float_macs`` are the multiply-adds of one image that become float by it.
    """

    name: str
    estimate: Estimate
    float_macs: int


@dataclass(frozen=True)
class Choice:
    """``recipe`` keeps float what ``steps`` name, besides what it kept before; ``before`` is the estimate without."""

    recipe: Recipe
    before: Estimate
    steps: tuple[Step, ...]

    @property
    def estimate(self) -> Estimate:
        return self.steps[-1].estimate if self.steps else self.before


@dataclass
class _Candidate:
    """A tensor that could stay float, with the observers that would go, and the noise that this removed last."""

    tensor: StoredTensor
    nodes: frozenset[fx.Node]
    removed: float = math.inf

    @property
    def name(self) -> str:
        return " ".join(self.tensor.key)

    @property
    def worth(self) -> float:
        return self.removed / (self.tensor.macs + VALUE_COST * self.tensor.elements)


Candidates = dict[str, _Candidate]


@dataclass
class Search:
    """A program, and the images that its noise is measured on.

    ``batches`` are float32 [B, C, H, W] for ``program``, which takes B images at once. They should not be among those
    that gave the ``histograms``: of these no value lies far outside a range, so that their noise is too small.
    """

    program: ExportedProgram
    recipe: Recipe
    scheme: Scheme
    histograms: Mapping[str, Histogram]
    batches: Sequence[Tensor]
    _refused: set[str] = field(default_factory=set)

    def reach(self, goal_db: float) -> Choice:
        """The recipe with the tensors kept float that bring the lower end of the estimate to ``goal_db``.

        Where nothing reaches the goal, the choice is the best that was found. Raises ValueError when there is no image.
        """
        if not self.batches:
            raise ValueError("no image was given")
        estimate, candidates = self._look(self.recipe, {})
        choice = Choice(self.recipe, estimate, ())
        while choice.estimate.at_least_db < goal_db:
            best = self._best(candidates, choice.estimate, goal_db)
            if best is None:
                break
            recipe = replace(choice.recipe, keep_float=(*choice.recipe.keep_float, best.name))
            try:
                estimate, found = self._look(recipe, candidates)
            except InputError:  # the target cannot keep this one float
                self._refused.add(best.name)
                continue
            if estimate.sqnr_db <= choice.estimate.sqnr_db:  # its error cancels a part of another one's
                self._refused.add(best.name)
                continue
            candidates = found
            choice = Choice(recipe, choice.before, (*choice.steps, Step(best.name, estimate, best.tensor.macs)))
        return choice

    def _best(self, candidates: Candidates, estimate: Estimate, goal_db: float) -> _Candidate | None:
        """The candidate that is worth most, of those that remove enough noise; None where none does."""
        too_much = estimate.noise * (1 - 10 ** ((estimate.at_least_db - goal_db) / 10))
        left = [found for name, found in candidates.items() if name not in self._refused]
        enough = [found for found in left if found.removed > LEAST_SHARE * too_much]
        return max(enough, key=lambda found: found.worth, default=None)

    def _look(self, recipe: Recipe, before: Candidates) -> tuple[Estimate, Candidates]:
        """The estimate with ``recipe``, and what could stay float besides.

        The candidates that were worth most ``before`` are judged again, all of them the first time.
        """
        switched = SwitchedProgram(prepare(self.program, recipe, self.scheme, self.histograms))
        found = {candidate.name: candidate for candidate in self._candidates(switched)}
        for name in found.keys() & before.keys():
            found[name].removed = before[name].removed
        ranked = sorted(found.values(), key=lambda candidate: candidate.worth, reverse=True)
        again = [candidate for candidate in ranked if candidate.name not in self._refused]
        return _judge(switched, again[:REFRESHED] if before else again, self.batches), found

    def _candidates(self, switched: SwitchedProgram) -> Iterator[_Candidate]:
        """Every activation that could stay float. A layer that reads one computes in float and gives floats."""
        stored = {producer(node): tensor.nodes for tensor in switched.tensors for node in tensor.nodes}
        for tensor in switched.tensors:
            computed = producer(next(iter(tensor.nodes)))
            fixed = computed.name in self._integer_layers or role(computed) is Role.GATE
            if tensor.kind != "activation" or fixed:
                continue
            gone = set(tensor.nodes)
            for layer in {reader for node in tensor.nodes for reader in readers(node) if reader.target in LAYERS}:
                gone |= stored.get(producer(layer.all_input_nodes[1]), frozenset())
                if not any(reader.target in LAYERS for reader in readers(layer)):
                    gone |= stored.get(layer, frozenset())
            yield _Candidate(tensor, frozenset(gone))

    @cached_property
    def _integer_layers(self) -> frozenset[str]:
        """The layers whose integer kernels give nothing but integers."""
        layers = [node for node in self.program.module().graph.nodes if is_layer(node)]
        required = {node: self.scheme.required_of(convolution=is_convolution(node)) for node in layers}
        return frozenset(node.name for node in layers if role(node) in required[node])


def _judge(switched: SwitchedProgram, candidates: Sequence[_Candidate], batches: Sequence[Tensor]) -> Estimate:
    """The estimate of the program as it is; each of ``candidates`` learns what it would remove."""
    signal, noise = [], []
    left = [0.0] * len(candidates)
    with torch.no_grad():
        for batch in batches:
            reference = switched.logits(switched.run(batch, frozenset()))[: len(batch)].double()
            whole = switched.run(batch, switched.every)
            signal.append(reference.square().sum(1))
            noise.append((switched.logits(whole)[: len(batch)].double() - reference).square().sum(1))
            for index, candidate in enumerate(candidates):
                values = switched.run_again(whole, switched.every - candidate.nodes, candidate.nodes)
                found = switched.logits(values)[: len(batch)].double()
                left[index] += float((found - reference).square().sum())
    total = float(torch.cat(noise).sum())
    for candidate, rest in zip(candidates, left, strict=True):
        candidate.removed = total - rest
    return Estimate.of(torch.cat(signal), torch.cat(noise))
