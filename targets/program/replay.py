"""The layers of a quantized program in torch: on its own, or each from what a runtime computed before it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from levit_edge.errors import InputError
from quantize.roles import LAYERS, aten
from targets.program import archive
from targets.program.tap import Kind, Layer, stored
from targets.target import Image

_KINDS: dict[object, Kind] = {
    **{target: "conv" if target == aten.conv2d.default else "linear" for target in LAYERS},
    aten.bmm.default: "matmul",
}


def load(path: Path) -> ExportedProgram:
    """The program saved at ``path`` by ``torch.export.save``, without running anything that the file says.

    Raises InputError when there is none, or one that no build writes (see :mod:`targets.program.archive`).
    """
    import torchao.quantization.pt2e  # noqa: F401  # registers the quantize and dequantize operators

    if not path.is_file():
        raise InputError(f"{path} does not exist; it is what the layers are compared with: build the bundle again")
    try:
        return archive.load(path.read_bytes())
    except Exception as error:  # noqa: BLE001  # zip, JSON and torch errors alike
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} is not a torch program: {reason}") from None


def _name(node: fx.Node) -> str:
    """Where the layer is in the model, such as ``blocks.1.down``; a product is told by its node, too."""
    owners = list(node.meta.get("nn_module_stack", {}).values())
    owner = owners[-1][0] if owners else ""
    if node.target in LAYERS and owner:
        return str(owner)
    return f"{owner}.{node.name}" if owner else node.name


def _quantize_node(layer: fx.Node) -> fx.Node | None:
    """The quantize operator that stores the layer's output, if that is its only consumer."""
    users = list(layer.users)
    is_quantize = len(users) == 1 and users[0].target == torch.ops.quantized_decomposed.quantize_per_tensor.default
    return users[0] if is_quantize else None


class _Recorder(fx.Interpreter):
    """Runs a program and keeps every layer; ``given`` layers replace those that it computed."""

    def __init__(self, module: fx.GraphModule, given: Sequence[Layer] | None) -> None:
        super().__init__(module)
        self.given, self.layers = given, list[Layer]()

    def run_node(self, n: fx.Node) -> object:
        value = super().run_node(n)
        if n.target not in _KINDS:
            return value
        assert isinstance(value, Tensor)
        index = len(self.layers)
        self.layers.append(_layer(n, value))
        return value if self.given is None else torch.from_numpy(self.given[index].values)


def _layer(node: fx.Node, value: Tensor) -> Layer:
    quantize = _quantize_node(node)
    if quantize is None:
        return Layer(_KINDS[node.target], _name(node), value.numpy())
    integers: Tensor = quantize.target(value, *quantize.args[1:])  # type: ignore[operator]  # an operator, not a name
    scale, zero_point, lowest = quantize.args[1:4]
    assert isinstance(scale, float) and isinstance(zero_point, int) and isinstance(lowest, int)
    return stored(_KINDS[node.target], _name(node), integers.numpy(), scale, zero_point, lowest)


def _run(program: ExportedProgram, image: Image, given: Sequence[Layer] | None) -> tuple[Layer, ...]:
    module = program.module()
    assert isinstance(module, fx.GraphModule)
    recorder = _Recorder(module, given)
    with torch.no_grad():
        recorder.run(torch.from_numpy(np.ascontiguousarray(image)))
    return tuple(recorder.layers)


def tap(program: ExportedProgram, image: Image) -> tuple[Layer, ...]:
    """Every layer of ``program`` on ``image`` float32 [1, C, H, W], in the order of execution."""
    return _run(program, image, None)


def replay(program: ExportedProgram, image: Image, given: Sequence[Layer]) -> tuple[Layer, ...]:
    """The same, each layer computed from ``given``, a runtime's values of the layers before it.

    A difference from ``given`` then belongs to that layer and the operators just before it, and is not inherited.
    ``given`` has the layers of ``tap`` in the same order and shapes.
    """
    return _run(program, image, given)
