"""Mixed precision: the cheapest tensors to keep float so that the logits reach a signal to noise ratio.

The search is greedy. Each step keeps the tensor or the layer float that removes most noise for what it costs, and
prepares the program again with it, so the ratio behind each step is measured and not predicted. When the few images of
the search show enough, more images decide. (Skipping the most sensitive layers one after the other is partial
quantization: Wu et al. 2020, arXiv:2004.09602, section 6.1. What is added here is the cost.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from levit_edge.errors import InputError
from levit_edge.metrics.sqnr import decibels
from quantize.flow import prepare
from quantize.names import WHOLE_LAYER, layer_name, producer, readers
from quantize.recipes import Recipe
from quantize.roles import LAYERS, is_convolution, is_layer, role
from quantize.scheme import Role, Scheme
from quantize.statistics import Histogram
from quantize.switched_program import SwitchedProgram, macs

# On an emulated Cortex-A76 a float multiply-add takes a quarter of an instruction more than one in int8, and a value
# that becomes float takes two to four: about ten times as much.
VALUE_COST = 10
# A step removes at least this share of the noise that is still too much, so that there are not many of them.
LEAST_SHARE = 0.05
REFRESHED = 6  # candidates that are judged again after each step; the others keep what they removed before
LEAST_GAIN_DB = 0.5  # that the images of the search must show before those that decide are asked again


@dataclass(frozen=True)
class Figures:
    """SQNR of the logits in dB, and top-1 of the float model less that of the quantized one in percentage points.

    The drop is None where it was not measured.
    """

    sqnr_db: float
    top1_drop_pp: float | None = None


@dataclass(frozen=True)
class Goal:
    """The least SQNR of the logits in dB, and the largest drop of top-1 in percentage points; both are to be met."""

    min_sqnr_db: float = -math.inf
    max_drop_pp: float = math.inf

    def met_by(self, found: Figures) -> bool:
        """A drop that was not measured meets no limit."""
        drop = math.inf if found.top1_drop_pp is None else found.top1_drop_pp
        return found.sqnr_db >= self.min_sqnr_db and (self.max_drop_pp == math.inf or drop <= self.max_drop_pp)


@dataclass(frozen=True)
class Step:
    """One more thing that stays float, by name, and the SQNR with it on the images of the search.

    ``float_macs`` are the multiply-adds of one image that become float by it. ``confirmed`` are the figures on the
    images that decide, where they were asked.
    """

    name: str
    sqnr_db: float
    float_macs: int
    confirmed: Figures | None = None


@dataclass(frozen=True)
class Choice:
    """``recipe`` keeps float what ``steps`` name, besides what it kept before.

    ``before`` is the SQNR without them on the images of the search, with ``before_confirmed`` where the images that
    decide were asked. ``found`` is what these say of ``recipe``.
    """

    recipe: Recipe
    before: float
    before_confirmed: Figures | None
    steps: tuple[Step, ...]
    found: Figures
    reached: bool


@dataclass
class _Candidate:
    """A tensor or a whole layer that could stay float, and the noise that this removed last.

    ``nodes`` are the observers that would go, and ``exact`` the layers that would read what they share with others
    unrounded. ``float_macs`` and ``float_values`` of one image would become float.
    """

    name: str
    nodes: frozenset[fx.Node]
    float_macs: int
    float_values: int
    exact: frozenset[fx.Node] = frozenset()
    removed: float = math.inf

    @property
    def worth(self) -> float:
        return self.removed / (self.float_macs + VALUE_COST * self.float_values)


Candidates = dict[str, _Candidate]


@dataclass(frozen=True)
class _State:
    """A recipe, its program, what could stay float besides, and signal and noise on the images of the search."""

    recipe: Recipe
    switched: SwitchedProgram
    candidates: Candidates
    signal: float
    noise: float

    @property
    def sqnr_db(self) -> float:
        return decibels(self.signal, self.noise)


@dataclass
class Search:
    """A program, and the images that its noise is measured on.

    ``batches`` are float32 [B, C, H, W] for ``program``, which takes B images at once. They should not be among those
    that gave the ``histograms``: of these no value lies far outside a range, so that their noise is too small.
    ``confirm`` measures a program on the images that decide whether a goal is met. They should be more: the noise of a
    few images differs from that of all, and what was chosen on some suits them best.
    """

    program: ExportedProgram
    recipe: Recipe
    scheme: Scheme
    histograms: Mapping[str, Histogram]
    batches: Sequence[Tensor]
    confirm: Callable[[SwitchedProgram], Figures]
    _refused: set[str] = field(default_factory=set)

    def reach(self, goal: Goal) -> Choice:
        """The recipe with what has to be kept float to meet ``goal``; the best that was found where nothing meets it.

        Raises ValueError when there is no image.
        """
        if not self.batches:
            raise ValueError("no image was given")
        state = self._look(self.recipe.resolved(self.scheme), {})
        before, steps, wanted_db = state.sqnr_db, list[Step](), goal.min_sqnr_db
        found: Figures | None = None
        confirmed: Figures | None = None
        while True:
            if state.sqnr_db >= wanted_db:
                found = self.confirm(state.switched)
                if steps:
                    steps[-1] = replace(steps[-1], confirmed=found)
                else:
                    confirmed = found
                if goal.met_by(found):
                    break
                wanted_db = state.sqnr_db + max(goal.min_sqnr_db - found.sqnr_db, LEAST_GAIN_DB)
            better = self._improved(state, wanted_db)
            if better is None:
                break
            step, state = better
            steps.append(step)
            found = None
        found = found or self.confirm(state.switched)
        return Choice(state.recipe, before, confirmed, tuple(steps), found, goal.met_by(found))

    def _improved(self, state: _State, wanted_db: float) -> tuple[Step, _State] | None:
        """The best candidate kept float; None where none removes enough noise."""
        while (best := self._best(state, wanted_db)) is not None:
            recipe = replace(state.recipe, keep_float=(*(state.recipe.keep_float or ()), best.name))
            try:
                found = self._look(recipe, state.candidates)
            except InputError:  # the target cannot keep this one float
                found = state
            if found.noise < state.noise:
                return Step(best.name, found.sqnr_db, best.float_macs), found
            self._refused.add(best.name)  # or its error cancels a part of another one's
        return None

    def _best(self, state: _State, wanted_db: float) -> _Candidate | None:
        """The candidate that is worth most, of those that remove enough noise; None where none does."""
        too_much = state.noise * (1 - 10 ** ((state.sqnr_db - wanted_db) / 10))
        left = [found for name, found in state.candidates.items() if name not in self._refused]
        enough = [found for found in left if found.removed > LEAST_SHARE * too_much]
        return max(enough, key=lambda found: found.worth, default=None)

    def _look(self, recipe: Recipe, before: Candidates) -> _State:
        """The program of ``recipe``, and what could stay float besides.

        The candidates that were worth most ``before`` are judged again, all of them the first time.
        """
        switched = SwitchedProgram(prepare(self.program, recipe, self.scheme, self.histograms))
        found = {candidate.name: candidate for candidate in self._candidates(switched)}
        for name in found.keys() & before.keys():
            found[name].removed = before[name].removed
        ranked = sorted(found.values(), key=lambda candidate: candidate.worth, reverse=True)
        again = [candidate for candidate in ranked if candidate.name not in self._refused]
        signal, noise = _judge(switched, again[:REFRESHED] if before else again, self.batches)
        return _State(recipe, switched, found, signal, noise)

    def _candidates(self, switched: SwitchedProgram) -> Iterator[_Candidate]:
        """Every activation that could stay float, and every layer that could where others read the same tensor."""
        stored = {producer(node): tensor.nodes for tensor in switched.tensors for node in tensor.nodes}
        for tensor in switched.tensors:
            computed = producer(next(iter(tensor.nodes)))
            found = {reader for node in tensor.nodes for reader in readers(node) if reader.target in LAYERS}
            layers = sorted(found, key=lambda layer: layer.name)  # the same order in every process
            if tensor.kind != "activation":
                continue
            if computed.name not in self._integer_layers and role(computed) is not Role.GATE:
                gone = tensor.nodes.union(*(_computed_by(layer, stored) for layer in layers))
                yield _Candidate(" ".join(tensor.key), gone, tensor.macs, tensor.elements)
            for layer in layers if len(layers) > 1 else ():
                is_stored = switched.is_stored(layer.all_input_nodes[0])
                exact = frozenset[fx.Node]() if is_stored else frozenset({layer})
                yield _of_layer(layer, _computed_by(layer, stored), exact, switched.images)

    @cached_property
    def _integer_layers(self) -> frozenset[str]:
        """The layers whose integer kernels give nothing but integers."""
        layers = [node for node in self.program.module().graph.nodes if is_layer(node)]
        required = {node: self.scheme.required_of(convolution=is_convolution(node)) for node in layers}
        return frozenset(node.name for node in layers if role(node) in required[node])


def _computed_by(layer: fx.Node, stored: Mapping[fx.Node, frozenset[fx.Node]]) -> frozenset[fx.Node]:
    """The observers that go when ``layer`` computes in float: those of its weight, and of what it gives."""
    gone = stored.get(producer(layer.all_input_nodes[1]), frozenset())
    if any(reader.target in LAYERS for reader in readers(layer)):  # which round it for themselves
        return gone
    return gone | stored.get(layer, frozenset())


def _of_layer(layer: fx.Node, gone: frozenset[fx.Node], exact: frozenset[fx.Node], images: int) -> _Candidate:
    name = f"{layer_name(layer)} {WHOLE_LAYER}"
    values = layer.meta["val"].numel() // images if len(gone) > 1 else 0  # the observer of its weight goes anyway
    return _Candidate(name, gone, macs(layer) // images, values, exact)


def _judge(
    switched: SwitchedProgram, candidates: Sequence[_Candidate], batches: Sequence[Tensor]
) -> tuple[float, float]:
    """Squared logits and errors of the program as it is; each of ``candidates`` learns what it would remove."""
    signal = noise = 0.0
    left = [0.0] * len(candidates)
    with torch.no_grad():
        for batch in batches:
            reference = switched.logits(switched.run(batch, frozenset()))[: len(batch)].double()
            whole = switched.run(batch, switched.every)
            signal += float(reference.square().sum())
            noise += float((switched.logits(whole)[: len(batch)].double() - reference).square().sum())
            for index, candidate in enumerate(candidates):
                values = switched.run_again(whole, switched.every - candidate.nodes, candidate.nodes, candidate.exact)
                found = switched.logits(values)[: len(batch)].double()
                left[index] += float((found - reference).square().sum())
    for candidate, rest in zip(candidates, left, strict=True):
        candidate.removed = noise - rest
    return signal, noise
