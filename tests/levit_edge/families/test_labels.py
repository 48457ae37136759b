"""Class names come from the checkpoint, from the user, or from counting, and never from two places that differ."""

from __future__ import annotations

import pytest

from levit_edge.errors import InputError
from levit_edge.families.labels import choose_labels, numbered_labels


def test_numbered_labels() -> None:
    assert numbered_labels(2) == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize(
    ("stated", "given", "chosen"),
    [
        (None, None, ("LABEL_0", "LABEL_1")),
        (None, ["cat", "dog"], ("cat", "dog")),
        (["cat", "dog"], None, ("cat", "dog")),
        (["cat", "dog"], ["cat", "dog"], ("cat", "dog")),
        (["LABEL_0", "LABEL_1"], ["cat", "dog"], ("cat", "dog")),
    ],
)
def test_which_names_win(stated: list[str] | None, given: list[str] | None, chosen: tuple[str, ...]) -> None:
    assert choose_labels(2, stated, given) == chosen


def test_a_backbone_has_none() -> None:
    assert choose_labels(0, ["cat", "dog"], None) == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["cat"], "^1 labels were given; the checkpoint has 2 classes$"),
        (["cat", "fox"], r"differ from those in config.json \(class 1: 'dog' and 'fox'\); give none$"),
    ],
)
def test_names_that_contradict_the_checkpoint(given: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_labels(2, ["cat", "dog"], given)
