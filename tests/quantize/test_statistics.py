"""Histograms are exact: the same counts in any order, and those of a direct count over the final limit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from quantize.statistics import BINS, Histogram, merged, observe

# Nothing closer to zero than 2**-100: below that, dividing by the bin width leaves float32.
_MAGNITUDES = st.floats(2.0**-100, 2.0**20, width=32)
_VALUES = st.one_of(st.just(0.0), _MAGNITUDES, _MAGNITUDES.map(lambda value: -value))
_EDGES = st.builds(
    lambda power, step, sign: sign * 2.0**power * step / 16,
    st.integers(-30, 10),
    st.integers(0, 16),
    st.sampled_from([-1, 1]),
)
_BATCHES = st.lists(st.lists(_VALUES | _EDGES, min_size=1, max_size=6), min_size=1, max_size=6)


def _gather(batches: Sequence[Sequence[float]]) -> Histogram:
    histogram = Histogram()
    for batch in batches:
        histogram.add(torch.tensor(batch))
    return histogram


def _direct(values: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
    """Counts over [-limit, limit) by exact arithmetic: the bin width is a power of two."""
    index = np.floor(values / (2 * limit / BINS)).astype(np.int64) + BINS // 2
    return np.bincount(index, minlength=BINS).astype(np.float64)


def _same(a: Histogram, b: Histogram) -> bool:
    bounds = (a.limit, a.minimum, a.maximum) == (b.limit, b.minimum, b.maximum)
    return bounds and np.array_equal(a.counts, b.counts)


@settings(max_examples=100, deadline=None)
@given(batches=_BATCHES)
def test_counts_are_those_of_a_direct_histogram(batches: list[list[float]]) -> None:
    histogram = _gather(batches)
    values = np.array([value for batch in batches for value in batch], dtype=np.float64)
    assert np.array_equal(histogram.counts, _direct(values, histogram.limit))
    assert (histogram.minimum, histogram.maximum) == (values.min(), values.max())
    assert -histogram.limit <= values.min()
    assert values.max() < histogram.limit


@settings(max_examples=100, deadline=None)
@given(batches=_BATCHES, data=st.data())
def test_the_order_of_images_does_not_matter(batches: list[list[float]], data: st.DataObject) -> None:
    assert _same(_gather(batches), _gather(data.draw(st.permutations(batches))))


@settings(max_examples=100, deadline=None)
@given(batches=_BATCHES, cut=st.integers(0, 6))
def test_merging_parts_equals_gathering_the_whole(batches: list[list[float]], cut: int) -> None:
    parts = [_gather(part) for part in (batches[:cut], batches[cut:]) if part]
    before = [part.counts.copy() for part in parts]
    assert _same(merged(parts), _gather(batches))
    assert all(np.array_equal(part.counts, old) for part, old in zip(parts, before, strict=True))


@pytest.mark.parametrize("values", [[1.0, 1.5], [-1.0, 1.5], [-1e-10, 1.0], [2.0**-20, 3.0], [-(2.0**-20), 3.0]])
def test_values_on_and_beside_an_edge_stay_in_their_bin(values: list[float]) -> None:
    singly = [[value] for value in values]
    assert _same(_gather(singly), _gather(singly[::-1]))
    assert _same(_gather(singly), _gather([values]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    histogram = Histogram()
    with pytest.raises(ValueError, match="NaN or infinity"):
        histogram.add(torch.tensor([0.5, bad, 1.0]))
    assert histogram.counts.sum() == 0


def test_zeros_lie_in_the_first_bin_from_zero_on() -> None:
    histogram = _gather([[0.0] * 5])
    assert histogram.counts[BINS // 2] == histogram.counts.sum() == 5
    assert (histogram.minimum, histogram.maximum) == (0, 0)


def test_a_constant_tensor_fills_one_bin() -> None:
    histogram = _gather([[-0.375] * 7])
    centres, counts = histogram.occupied()
    assert counts.tolist() == [7]
    assert abs(centres[0] + 0.375) <= histogram.limit / BINS


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_counted_by_value(dtype: torch.dtype) -> None:
    values = torch.randn(3, 50, generator=torch.Generator().manual_seed(0)).to(dtype)
    histogram = Histogram()
    histogram.add(values)
    assert np.array_equal(histogram.counts, _direct(values.float().double().numpy().ravel(), histogram.limit))


def test_occupied_gives_the_centre_of_every_used_bin() -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    histogram = Histogram()
    histogram.add(values)
    centres, counts = histogram.occupied()
    assert counts.sum() == 1000
    assert (counts > 0).all()
    half = histogram.limit / BINS
    distances = np.abs(values.double().numpy()[:, None] - centres[None, :]).min(axis=1)
    assert distances.max() <= half


def test_scaling_scales_positions_and_keeps_counts() -> None:
    histogram = _gather([[-0.5, 0.25, 3.0]])
    third = histogram.scaled(1 / 3)
    (centres, counts), (scaled_centres, scaled_counts) = histogram.occupied(), third.occupied()
    assert np.allclose(scaled_centres, centres / 3, rtol=1e-12)
    assert np.array_equal(counts, scaled_counts)
    assert (third.minimum, third.maximum) == (-0.5 * (1 / 3), 3.0 * (1 / 3))


def test_a_scaled_histogram_does_not_change_its_source() -> None:
    histogram = _gather([[0.5, 1.0]])
    histogram.scaled(2.0).add(torch.tensor([0.1]))
    assert histogram.counts.sum() == 2


class _Net(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + 1) * 2


def _nodes(module: fx.GraphModule) -> list[str]:
    return [node.name for node in module.graph.nodes if node.op == "call_function"]


def test_observe_counts_every_value_of_the_named_nodes() -> None:
    module = fx.symbolic_trace(_Net())
    add, relu, mul = _nodes(module)
    batches = [torch.randn(3, 2, 4, 4), torch.randn(1, 2, 4, 4)]
    found = observe(module, [add, relu], batches)
    assert set(found) == {add, relu}
    everything = torch.cat(batches) + 1
    for name, values in ((add, everything), (relu, torch.relu(everything))):
        assert found[name].counts.sum() == values.numel()
        assert np.array_equal(found[name].counts, _direct(values.double().numpy().ravel(), found[name].limit))
    assert mul not in found


def test_observe_runs_one_image_at_a_time() -> None:
    seen: list[torch.Size] = []

    class Watched(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.shape)
            return x

    root = nn.Module()
    root.watched = Watched()
    graph = fx.Graph()
    graph.output(graph.call_module("watched", (graph.placeholder("x"),)))
    observe(fx.GraphModule(root, graph), ["watched"], [torch.zeros(3, 1, 2, 2), torch.zeros(2, 1, 2, 2)])
    assert seen == [torch.Size([1, 1, 2, 2])] * 5


def test_batching_does_not_change_what_is_observed() -> None:
    module = fx.symbolic_trace(_Net())
    images = torch.randn(5, 2, 4, 4)
    name = _nodes(module)[0]
    parts = [observe(module, [name], images.split(size))[name] for size in (1, 2, 5)]
    assert _same(parts[0], parts[1])
    assert _same(parts[0], parts[2])


def test_observe_refuses_names_that_are_no_nodes_and_empty_data() -> None:
    module = fx.symbolic_trace(_Net())
    with pytest.raises(ValueError, match="no calibration image gave a value of nowhere"):
        observe(module, ["nowhere"], [torch.zeros(1, 1, 2, 2)])
    with pytest.raises(ValueError, match="no calibration image"):
        observe(module, _nodes(module), [])


def test_observe_reports_an_image_that_gives_infinity() -> None:
    module = fx.symbolic_trace(_Net())
    with pytest.raises(ValueError, match="NaN or infinity"):
        observe(module, _nodes(module), [torch.full((1, 1, 2, 2), 3e38)])
