"""Which channels of a program can be rescaled without changing what it computes, as far as the graph proves it.

A channel can be divided by a factor where a layer makes it, if it is multiplied by the factor wherever it is summed up
and every operator in between keeps channels apart and is linear in each. To prove that, every element of a tensor is
followed by the number of its channel: an operator that rearranges elements is run on the numbers, so none of them needs
a rule of its own. What is not known to be linear fixes the channels that reach it, and all that are joined to them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from quantize.hardswish import constant_value
from quantize.roles import MOVES, PRODUCTS, aten, is_constant, is_convolution, is_layer, layer_operands

_REARRANGES = (*MOVES, aten.slice.Tensor, aten.select.int)
FIXED = -1  # the group of a channel that cannot be rescaled


@dataclass(frozen=True)
class Operand:
    """A tensor whose channels an operator sums up. All elements along the axes ``along`` are of one channel.

    ``channels`` are the numbers of the others, flattened: int64 [J], one for each term of the sums.
    """

    node: fx.Node
    along: tuple[int, ...]
    channels: Tensor

    @property
    def key(self) -> tuple[fx.Node, tuple[int, ...]]:
        """Equal where the tensor and its channels are."""
        return self.node, self.along


@dataclass(frozen=True)
class Contraction:
    """A layer that sums up the channels of ``left``, or the product of two tensors, where ``right`` is the second."""

    operator: fx.Node
    left: Operand
    right: Operand | None = None


@dataclass(frozen=True)
class Channels:
    """The channels of a program, by number; each is one row of the weight of a layer.

    ``rows`` are the channels that a layer makes [C_out]. The channels of one group have one factor: it divides those
    whose sign is 1 and multiplies those whose sign is -1. ``groups`` and ``signs`` are int64 [channels].
    """

    rows: dict[fx.Node, Tensor]
    contractions: tuple[Contraction, ...]
    groups: Tensor
    signs: Tensor

    @property
    def operands(self) -> Iterator[Operand]:
        """All that is summed up; some of them more than once."""
        for found in self.contractions:
            yield from (found.left,) if found.right is None else (found.left, found.right)

    @property
    def count(self) -> int:
        """The number of groups."""
        return int(self.groups.max()) + 1 if len(self.groups) else 0

    def divisors(self, channels: Tensor, factors: Tensor) -> Tensor:
        """What divides each of ``channels`` when each group has its entry of ``factors``."""
        found = of_group(factors, self.groups[channels])
        return torch.where(self.signs[channels] > 0, found, 1 / found)


def of_group(factors: Tensor, groups: Tensor) -> Tensor:
    """The factor of each of ``groups``: 1 for those that are FIXED."""
    return torch.cat([factors, factors.new_ones(1)])[groups]  # FIXED is the last


def follow(module: fx.GraphModule, parameters: Collection[str]) -> Channels:
    """The channels of ``module``. Of its constants, those among ``parameters`` that one layer reads can change."""
    follower = _Follower(module, parameters)
    for node in module.graph.nodes:
        follower.visit(node)
    return follower.result()


class _Follower:
    def __init__(self, module: fx.GraphModule, parameters: Collection[str]) -> None:
        self._module, self._joined = module, _Joined()
        self._numbers: dict[fx.Node, Tensor] = {}  # of a tensor: the channel of each element, in its shape
        self._rows: dict[fx.Node, Tensor] = {}
        self._contractions: list[Contraction] = []
        readers = Counter(str(node.target) for node in module.graph.nodes if is_constant(node) for _ in node.users)
        self._free = {name for name in parameters if readers[name] == 1}

    def visit(self, node: fx.Node) -> None:
        """Number the channels of what ``node`` computes, or fix those that it reads."""
        read = [operand for operand in node.all_input_nodes if operand in self._numbers]
        is_free = is_layer(node) and self._can_change(node)
        if read and not (self._sum_up(node) if is_free else self._pass_on(node)):
            for operand in read:
                self._joined.fix(self._numbers[operand])
        if is_free:
            rows = self._joined.new(len(self._weight(node)))
            self._rows[node] = rows
            self._numbers[node] = rows.view(-1, *[1] * (-1 - _channel_axis(node))).expand(node.meta["val"].shape)

    def result(self) -> Channels:
        groups, signs = self._joined.groups()
        return Channels(self._rows, tuple(self._contractions), groups, signs)

    def _weight(self, layer: fx.Node) -> Tensor:
        return constant_value(self._module, layer_operands(layer)[1])

    def _can_change(self, layer: fx.Node) -> bool:
        return all(str(constant.target) in self._free for constant in layer_operands(layer)[1:] if constant is not None)

    def _sum_up(self, layer: fx.Node) -> bool:
        """False where the columns of the weight are not those of the channels, one by one."""
        x = layer.all_input_nodes[0]
        others = range(-self._numbers[x].dim(), 0)
        operand = self._operand(x, [axis for axis in others if axis != _channel_axis(layer)])
        if operand is None or len(operand.channels) != self._weight(layer).shape[1]:
            return False
        self._contractions.append(Contraction(layer, operand))
        return True

    def _pass_on(self, node: fx.Node) -> bool:
        """False where ``node`` is not known to be linear in each channel that it reads."""
        operands = [self._numbers.get(operand) for operand in node.args[:2] if isinstance(operand, fx.Node)]
        known = [numbers for numbers in operands if numbers is not None]
        if len(known) == len(node.all_input_nodes) == 1 and node.target in _REARRANGES:
            self._numbers[node] = _operator(node)(known[0].contiguous(), *node.args[1:], **node.kwargs)
            return True
        if len(known) == 1 and node.target == aten.mean.dim:
            return self._average(node, known[0])
        if len(known) < 2:
            return False
        if node.target == aten.add.Tensor:
            left, right = torch.broadcast_tensors(*known)
            self._joined.join(left, right, 1)
            self._numbers[node] = left
            return True
        return node.target in PRODUCTS and self._multiply(node)

    def _average(self, node: fx.Node, numbers: Tensor) -> bool:
        """False where a mean is one over several channels."""
        found = _common(numbers, node.args[1] or [])  # type: ignore[arg-type]  # a list of axes; no axis means all
        if found is not None:
            self._numbers[node] = found.view(node.meta["val"].shape)  # the axes may be kept
        return found is not None

    def _multiply(self, node: fx.Node) -> bool:
        """False unless [..., N, K] @ [..., K, M] has one channel for each K: then one factor undoes the other."""
        first, second = (node.all_input_nodes * 2)[:2]  # of q @ q there is one
        left, right = self._operand(first, [-2]), self._operand(second, [-1])
        shapes = [self._numbers[operand].shape for operand in (first, second)]
        if left is None or right is None or (*shapes[0][:-2], shapes[0][-1]) != shapes[1][:-1]:
            return False
        self._joined.join(left.channels, right.channels, -1)
        self._contractions.append(Contraction(node, left, right))
        return True

    def _operand(self, node: fx.Node, along: list[int]) -> Operand | None:
        channels = _common(self._numbers[node], along) if self._numbers[node].dim() > 1 else None
        return None if channels is None else Operand(node, tuple(along), channels.flatten())


class _Joined:
    """Channels that have one factor: a tree for each group, with the sign of every channel against its parent."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._signs: list[int] = []
        self._fixed: set[int] = set()

    def new(self, count: int) -> Tensor:
        """The numbers of ``count`` more channels: int64 [count]."""
        first = len(self._parents)
        self._parents += range(first, first + count)
        self._signs += [1] * count
        return torch.arange(first, first + count)

    def join(self, left: Tensor, right: Tensor, sign: int) -> None:
        """Give each channel in ``left`` the factor of that in ``right``, or its inverse where ``sign`` is -1."""
        pairs = torch.stack([left.flatten(), right.flatten()], dim=1)  # [elements, 2]
        for one, other in torch.unique(pairs, dim=0).tolist():
            (root, sign_of_one), (second, sign_of_other) = self._root(one), self._root(other)
            relative = sign_of_one * sign * sign_of_other
            if root != second:
                self._parents[second], self._signs[second] = root, relative
                if second in self._fixed:
                    self._fixed.add(root)
            elif relative == -1:  # the factor would have to be its own inverse
                self._fixed.add(root)

    def fix(self, channels: Tensor) -> None:
        """Leave ``channels`` as they are, and all that are joined to them now or later."""
        self._fixed |= {self._root(channel)[0] for channel in torch.unique(channels).tolist()}

    def groups(self) -> tuple[Tensor, Tensor]:
        """The group and the sign of each channel: both int64 [channels]."""
        found = [self._root(channel) for channel in range(len(self._parents))]
        free = sorted({root for root, _ in found} - self._fixed)
        group = {root: index for index, root in enumerate(free)}
        groups = torch.tensor([group.get(root, FIXED) for root, _ in found], dtype=torch.int64)
        return groups, torch.tensor([sign for _, sign in found], dtype=torch.int64)

    def _root(self, channel: int) -> tuple[int, int]:
        """The root of its tree, and its sign against it."""
        sign = 1
        while self._parents[channel] != channel:
            sign *= self._signs[channel]
            channel = self._parents[channel]
        return channel, sign


def _operator(node: fx.Node) -> Callable[..., Tensor]:
    return node.target  # type: ignore[return-value]  # of a call_function


def _channel_axis(layer: fx.Node) -> int:
    """From the end: [..., C, H, W] for a convolution, [..., C] for a linear layer."""
    return -3 if is_convolution(layer) else -1


def _common(numbers: Tensor, axes: list[int]) -> Tensor | None:
    """The one number along ``axes``, which are gone; None where there is more than one."""
    least, most = numbers.amin(axes), numbers.amax(axes)
    return least if torch.equal(least, most) else None
