"""The steps of post-training quantization, each of them on a whole program: trace, calibrate, quantize."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.utils import _fuse_conv_bn_, _fuse_linear_bn_

from quantize.quantizer import SchemeQuantizer
from quantize.recipes import Recipe
from quantize.roles import is_layer, layer_operands, role, source
from quantize.scheme import Role, Scheme
from quantize.statistics import Histogram, observe

# Float between operators on every target: a histogram is needed only where a layer reads one of them.
_NEVER_STORED = {Role.SCORES, Role.BIASED_SCORES, None}

# Where each node comes from: they hold paths of this machine and addresses of this process.
_ORIGINS = ("from_node", "stack_trace")


def trace(model: nn.Module, image: Tensor) -> ExportedProgram:
    """The exported program of ``model`` for inputs shaped like ``image`` [1, C, H, W].

    Operators that overwrite their input are replaced by those that do not.
    """
    with torch.no_grad():
        program = torch.export.export(model, (image,))
    if any(getattr(node.target, "_schema", None) and node.target._schema.is_mutable for node in program.graph.nodes):
        program = program.run_decompositions({})  # only replaces them: nothing is decomposed
    for node in program.graph.nodes:
        for origin in _ORIGINS:
            node.meta.pop(origin, None)
    return program


def calibrate(program: ExportedProgram, batches: Iterable[Tensor]) -> Mapping[str, Histogram]:
    """Histograms of every tensor that a target may store or a layer reads, by node name.

    ``batches`` are float32 [B, C, H, W]; images run one at a time, and their order does not matter.

    Raises ValueError when there is no batch or an image makes the model produce NaN or infinity.
    """
    module = program.module()
    _fuse_conv_bn_(module)  # as prepare_pt2e does: a layer gives what its BatchNorm gave
    _fuse_linear_bn_(module)
    nodes = module.graph.nodes
    read = {source(layer_operands(node)[0]) for node in nodes if is_layer(node)}
    names = [node.name for node in nodes if node in read or role(node) not in _NEVER_STORED]
    return observe(module, names, batches)


def quantize(
    program: ExportedProgram, image: Tensor, recipe: Recipe, scheme: Scheme, histograms: Mapping[str, Histogram]
) -> ExportedProgram:
    """``program`` with explicit quantize and dequantize operators, as ``recipe`` and the target's ``scheme`` ask.

    ``histograms`` come from :func:`calibrate`; a recipe that quantizes only weights needs none. A recipe without int8
    gives the program back as it is. Raises InputError when the recipe keeps float what the scheme requires as integers.
    """
    if recipe.weights != "int8":
        return program
    converted = convert_pt2e(prepare(program, recipe, scheme, histograms))
    _drop_unused(converted)
    return trace(converted, image)


def prepare(
    program: ExportedProgram, recipe: Recipe, scheme: Scheme, histograms: Mapping[str, Histogram]
) -> GraphModule:
    """The module of ``program`` with an observer at each tensor that :func:`quantize` stores as integers.

    The observers know their scales and zero points. Raises InputError as :func:`quantize` does.
    """
    quantizer = SchemeQuantizer(
        recipe.scheme(scheme),
        histograms,
        activation_range=recipe.activation_range,
        activation_error=recipe.activation_error,
        weight_range=recipe.weight_range,
        weights_only=not recipe.calibrates,
        keep_float=recipe.kept_tensors,
    )
    prepared: GraphModule = prepare_pt2e(program.module(), quantizer)
    return prepared


def _drop_unused(module: GraphModule) -> None:
    """Delete the float weights that integers have replaced: a program would carry every parameter of its module."""
    used = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    for name in {**dict(module.named_parameters()), **dict(module.named_buffers())}:
        if name not in used:
            owner, _, leaf = name.rpartition(".")
            delattr(module.get_submodule(owner), leaf)
