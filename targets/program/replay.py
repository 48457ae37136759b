"""The layers of a program in torch: computed from the image, or each from what a runtime computed before it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx
from torch.export import ExportedProgram

from levit_edge.errors import InputError
from levit_edge.wording import first_line
from quantize.names import is_layer_node, layer_name
from quantize.roles import LAYERS, PRODUCTS, aten
from targets.program import archive
from targets.program.tap import Kind, Layer, stored
from targets.runner import Image

_KINDS: dict[object, Kind] = {
    **{target: "conv" if target == aten.conv2d.default else "linear" for target in LAYERS},
    **dict.fromkeys(PRODUCTS, "matmul"),
}

Values = NDArray[np.float32]


def load(path: Path) -> ExportedProgram:
    """The program that ``torch.export.save`` wrote to ``path``; no code in the file is executed.

    Raises InputError when the file is absent, or holds what no build writes (see :mod:`targets.program.archive`).
    """
    import torchao.quantization.pt2e  # noqa: F401  # registers the quantize and dequantize operators

    if not path.is_file():
        raise InputError(f"{path} does not exist; it is what the layers are compared with: build the bundle again")
    try:
        return archive.load(path.read_bytes())
    except Exception as error:  # noqa: BLE001  # zip, JSON and torch errors alike
        raise InputError(f"{path} is not a torch program: {first_line(error)}") from None


def tap(program: ExportedProgram, image: Image) -> tuple[Layer, ...]:
    """Every layer of ``program`` on ``image`` float32 [1, C, H, W], in the order of execution."""
    return tuple(layer_as_stored(node, values) for node, values in layer_outputs(program.module(), image))


def replay(program: ExportedProgram, image: Image, given: Sequence[Layer]) -> tuple[Layer, ...]:
    """The same, but each layer is computed from ``given``, a runtime's own earlier layers.

    A layer that differs from ``given`` is therefore wrong by itself: no error is inherited from the layers before it.
    ``given`` has the layers of :func:`tap` in the same order and shapes.
    """
    outputs = layer_outputs(program.module(), image, [layer.values for layer in given])
    return tuple(layer_as_stored(node, values) for node, values in outputs)


def layer_nodes(graph: fx.Graph) -> list[fx.Node]:
    """The layers of an exported graph in the order of execution."""
    return [node for node in graph.nodes if is_layer_node(node)]


def layer_outputs(
    module: fx.GraphModule, image: Image, given: Sequence[Values] | None = None
) -> list[tuple[fx.Node, Values]]:
    """What each layer computes from ``image`` float32 [1, C, H, W], before a quantize operator stores it.

    The operators after a layer read its values in ``given``, in the order of :func:`layer_nodes`, or, without
    ``given``, what the layer itself computed.
    """
    recorder = _Recorder(module, given)
    with torch.no_grad():
        recorder.run(torch.from_numpy(np.ascontiguousarray(image)))
    return recorder.outputs


class _Recorder(fx.Interpreter):
    """Runs a graph, keeps what each layer computes, and passes on ``given`` instead where it is not None."""

    def __init__(self, module: fx.GraphModule, given: Sequence[Values] | None) -> None:
        super().__init__(module)
        self.given, self.outputs = given, list[tuple[fx.Node, Values]]()

    def run_node(self, n: fx.Node) -> object:
        value = super().run_node(n)
        if not is_layer_node(n):
            return value
        assert isinstance(value, Tensor)
        self.outputs.append((n, value.numpy()))
        return value if self.given is None else torch.from_numpy(self.given[len(self.outputs) - 1])


def stored_as(node: fx.Node) -> tuple[float, int, int, int] | None:
    """(scale, zero point, lowest, highest) of the integers that store a layer; None if it stays float.

    A layer is stored where a quantize operator is the only one that reads it.
    """
    users = list(node.users)
    if [user.target for user in users] != [torch.ops.quantized_decomposed.quantize_per_tensor.default]:
        return None
    scale, zero_point, lowest, highest = users[0].args[1:5]
    assert isinstance(scale, float) and isinstance(zero_point, int)
    assert isinstance(lowest, int) and isinstance(highest, int)
    return scale, zero_point, lowest, highest


def layer_as_stored(node: fx.Node, values: Values) -> Layer:
    """The layer as it is stored: as integers where a quantize operator is the only one that reads it."""
    kind, name, parameters = layer_kind(node), layer_name(node), stored_as(node)
    if parameters is None:
        return Layer(kind, name, values)
    (quantize,) = node.users
    integers: Tensor = quantize.target(torch.from_numpy(values), *quantize.args[1:])  # type: ignore[operator]
    scale, zero_point, lowest, _ = parameters
    return stored(kind, name, integers.numpy(), scale, zero_point, lowest)


def layer_kind(node: fx.Node) -> Kind:
    """What kind of layer ``node`` is."""
    return _KINDS[node.target]
