"""The sample: balanced, fixed by the seed, and pinned for good."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import ImageItem, remainder, sample
from levit_edge.errors import InputError

# A change breaks every published sample.
PINNED_NAMES = ["c1/1.png", "c2/4.png", "c0/4.png", "c1/4.png", "c2/0.png", "c0/2.png"]


def _items(*sizes: int) -> list[ImageItem]:
    return [ImageItem(f"c{kind}/{n}.png", f"c{kind}", kind) for kind, size in enumerate(sizes) for n in range(size)]


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), data=st.data())
def test_a_sample_is_balanced_distinct_and_independent_of_the_order(sizes: list[int], data: st.DataObject) -> None:
    items = _items(*sizes)
    count = data.draw(st.integers(1, len(items)))
    seed = data.draw(st.integers(-(2**40), 2**40))
    chosen = sample(items, count, seed)
    assert len(set(chosen)) == len(chosen) == count
    assert chosen == sample(data.draw(st.permutations(items)), count, seed)
    assert chosen == sample(items, len(items), seed)[:count]
    per_class = Counter(item.class_index for item in chosen)
    most = max(per_class.values())
    assert all(per_class[kind] >= min(size, most - 1) for kind, size in enumerate(sizes))
    assert sorted((*chosen, *remainder(items, chosen)), key=items.index) == items


def test_another_seed_is_another_sample() -> None:
    items = _items(20, 20)
    assert set(sample(items, 10, 0)) != set(sample(items, 10, 1))
    assert sample(items, 10, 0) == sample(items, 10, 0)


def test_few_images_do_not_favour_the_first_classes() -> None:
    items = _items(*[2] * 50)
    first = Counter(sample(items, 1, seed)[0].class_index for seed in range(200))
    assert len(first) > 30


def test_the_choice_is_pinned() -> None:
    assert [item.name for item in sample(_items(5, 5, 5), 6, 0)] == PINNED_NAMES


def test_unlabelled_images_are_one_class() -> None:
    items = [ImageItem(f"{number}.png") for number in range(30)]
    assert len(sample(items, 7, 0)) == 7
    assert len(remainder(items, sample(items, 7, 0))) == 23


@pytest.mark.parametrize(("count", "message"), [(0, "at least 1"), (-1, "at least 1"), (11, "11 .* the data has 10")])
def test_impossible_counts(count: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sample(_items(5, 5), count, 0)
