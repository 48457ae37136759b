"""The scales, zero points and constants that a program states, by the layer that they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, float64, fx, tensor
from torch.export import ExportedProgram

from quantize.hardswish import constant_value
from quantize.names import (
    DEQUANTIZE,
    QUANTIZE,
    Key,
    activation_key,
    constant_key,
    is_layer_node,
    layer_name,
    numbered,
    producer,
    readers,
)
from quantize.observers import WEIGHT_MAX
from quantize.roles import is_constant

WEIGHT_DTYPE = "int8"


@dataclass(frozen=True)
class Activation:
    """How one tensor is stored; ``zero_point`` is one of the integers of the program, ``lowest`` to ``highest``."""

    scale: float
    zero_point: int
    lowest: int
    highest: int

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest real number that it can hold."""
        return self.scale * (self.lowest - self.zero_point), self.scale * (self.highest - self.zero_point)


@dataclass(frozen=True)
class Constant:
    """``integers`` less their zero point, and ``scale`` [C] or [1] with which they stand for real numbers along axis 0.

    A constant that is float has its ``values`` and no ``scale``. ``dtype`` is that of the program: int8, float32.
    """

    values: NDArray[Any]
    dtype: str
    scale: NDArray[np.float64] | None = None

    @property
    def form(self) -> str:
        """Type and shape: ``int8 [64, 32]``."""
        return f"{self.dtype} {list(self.values.shape)}"

    @property
    def steps(self) -> NDArray[np.float64]:
        """``scale`` in a shape that fits to ``values``; only where there is one."""
        assert self.scale is not None
        return self.scale.reshape(-1, *(1,) * (self.values.ndim - 1))  # [C] -> [C, 1, ...]


@dataclass(frozen=True)
class Parameters:
    """``layers`` in the order of execution. A key is the name of a layer and what it is of that layer.

    ``activations`` are an ``output``, an ``input`` (of the first layer that reads it), or carry the name of the
    operator that gives them. ``constants`` are a ``weight``, a ``bias``, or carry the name of the operator that reads
    them.
    """

    layers: tuple[str, ...]
    activations: dict[Key, Activation]
    constants: dict[Key, Constant]


def parameters(program: ExportedProgram) -> Parameters:
    """Everything that the quantize and dequantize operators of ``program`` state, and the values of its constants."""
    module = program.module()
    assert isinstance(module, fx.GraphModule)
    nodes = list(module.graph.nodes)
    return Parameters(
        layers=tuple(layer_name(node) for node in nodes if is_layer_node(node)),
        activations=numbered((activation_key(same), _activation(same[0])) for same in _stored(nodes)),
        constants=numbered(
            (constant_key(node), _constant(module, node)) for node in nodes if is_constant(node) and readers(node)
        ),
    )


def stored_ranges(program: ExportedProgram) -> dict[str, tuple[float, float]]:
    """The (lowest, highest) real number that each tensor of ``program`` can hold as an integer, by ``layer tensor``.

    Of a constant with a scale for each channel it is that of the widest channel. Biases are left out: their scale is
    the product of two others. Rounded to seven digits, which a float32 has.
    """
    found = parameters(program)
    ranges = {" ".join(key): activation.range for key, activation in found.activations.items()}
    for key, constant in found.constants.items():
        if constant.scale is not None and constant.dtype == WEIGHT_DTYPE:
            widest = float(np.max(constant.scale)) * WEIGHT_MAX
            ranges[" ".join(key)] = -widest, widest
    return {name: (float(f"{low:.7g}"), float(f"{high:.7g}")) for name, (low, high) in ranges.items()}


def _stored(nodes: list[fx.Node]) -> Iterator[list[fx.Node]]:
    """The operators that state how a tensor is stored, those together that state the same.

    Moves, several readers, and the two ends of a pair state the same again; where one of them does not, it counts.
    """
    found: dict[tuple[fx.Node, tuple[object, ...]], list[fx.Node]] = {}
    for node in nodes:
        if node.target == QUANTIZE[0] or (node.target == DEQUANTIZE[0] and not is_constant(node.args[0])):
            found.setdefault((producer(node), tuple(node.args[1:])), []).append(node)
    yield from found.values()


def _activation(node: fx.Node) -> Activation:
    scale, *integers = node.args[1:5]
    assert isinstance(scale, float)
    zero_point, lowest, highest = (number for number in integers if isinstance(number, int))
    return Activation(scale, zero_point, lowest, highest)


def _constant(module: fx.GraphModule, node: fx.Node) -> Constant:
    values = constant_value(module, node).detach()
    dtype, (user, *_) = str(values.dtype).removeprefix("torch."), node.users
    if user.target not in DEQUANTIZE:
        return Constant(values.numpy(), dtype)
    scale, zero_point = (_tensor(module, argument) for argument in user.args[1:3])
    if zero_point.any():
        values = values.int() - zero_point.int().reshape(-1, *(1,) * (values.dim() - 1))  # [C] -> [C, 1, ...]
    return Constant(values.numpy(), dtype, scale.double().reshape(-1).numpy())


def _tensor(module: fx.GraphModule, argument: object) -> Tensor:
    """[C], or [1] for a number that stands in the graph itself."""
    return constant_value(module, argument) if isinstance(argument, fx.Node) else tensor([argument], dtype=float64)
