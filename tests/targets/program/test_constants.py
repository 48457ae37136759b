"""Graphs of steps: which constants belong to which layer, and how their differences are worded."""

from __future__ import annotations

import numpy as np

from targets.program.constants import (
    Fact,
    Graph,
    Step,
    count,
    departures,
    floats,
    integers,
    quantization,
    stored_integers,
)

WEIGHT, SCALES, ZEROS = np.arange(-3, 3, dtype=np.int8).reshape(3, 2), np.float32([1, 2, 3]), np.zeros(3)
NAMES = ("first", "second")


def graph(*, weight: tuple[Fact, ...] = (), between: tuple[Fact, ...] = (), last: tuple[Fact, ...] = ()) -> Graph:
    """Two layers: the second reads the first through two equal steps, and the image too."""
    return Graph(
        (
            Step((), ("w",), weight),
            Step(("image", "w"), ("a",), (), True),
            Step(("a",), ("q",), between),
            Step(("q",), ("dq",), between),
            Step(("dq", "image"), ("b",), (), True),
            Step(("b",), ("out",), last),
        ),
        "out",
    )


def test_equal_graphs_have_no_departures_and_every_fact_counts() -> None:
    whole = {"weight": integers(WEIGHT, SCALES, ZEROS, 0), "between": quantization(0.1, 3, -128)}
    assert departures(graph(**whole), graph(**whole), NAMES) == ()
    assert count(graph(**whole)) == 2 + 2 and count(graph()) == 0


def test_each_difference_is_named_with_the_layer_that_reads_the_constant() -> None:
    healthy = graph(weight=integers(WEIGHT, SCALES, ZEROS, 0), between=quantization(0.5, 3, -128))
    other = graph(weight=integers(-WEIGHT, SCALES, ZEROS, 0), between=quantization(0.5, 4, -128))
    assert departures(other, healthy, NAMES) == (
        "first: int8 tensor [3, 2] in the file differs from the program's",
        (
            "second: the file has scale 0.5 with zero point 132 (counted from 0), "
            "the program scale 0.5 with zero point 131 (counted from 0)"
        ),
    )
    assert departures(graph(last=floats(np.float32([1, 2]))), graph(), NAMES) == (
        "the logits: the file has float tensor [2], which is not in the program",
    )
    assert departures(graph(), graph(weight=floats(np.float32([1, 2]))), NAMES) == (
        "first: float tensor [2] of the program is not in the file",
    )


def test_scales_differ_by_value_and_by_axis() -> None:
    square = np.eye(3, dtype=np.int8)
    program = graph(weight=integers(square, SCALES, ZEROS, 0))
    for scales, axis in ((SCALES * np.float32(1.0000002), 0), (SCALES, 1)):
        (line,) = departures(graph(weight=integers(square, scales, ZEROS, axis)), program, NAMES)
        assert line == "first: the scale of int8 tensor [3, 3] in the file differs from the program's"
    assert departures(graph(weight=integers(square, SCALES, ZEROS, -2)), program, NAMES) == ()


def test_what_a_converter_may_change_is_equal() -> None:
    assert quantization(0.5, 3, -128) == quantization(0.5, 131, 0)
    assert quantization(0.1, 3, 0) == quantization(float(np.float32(0.1)), 3, 0)
    assert floats(np.zeros(4, np.float32)) == () == floats(np.float32(3))
    assert floats(np.float32([[1, 2]])) == floats(np.float32([1, 2]))
    assert stored_integers(np.uint8([1])) != stored_integers(np.int8([1]))


def test_a_constant_that_several_layers_read_is_named_once() -> None:
    def shared(facts: tuple[Fact, ...]) -> Graph:
        steps = (Step((), ("c",), facts), Step(("c",), ("a",), (), True), Step(("c",), ("b",), (), True))
        return Graph(steps, "b")

    (line,) = departures(shared(floats(np.float32([1]))), shared(floats(np.float32([2]))), NAMES)
    assert line.startswith("first: ")


def test_two_layers_with_each_others_constants_differ() -> None:
    def two(one: float, other: float) -> Graph:
        steps = [Step((), (name,), floats(np.float32([value]))) for name, value in (("c", one), ("d", other))]
        return Graph((*steps, Step(("c",), ("a",), (), True), Step(("d",), ("b",), (), True)), "b")

    assert len(departures(two(1, 2), two(2, 1), NAMES)) == 2
