"""The one PT2E quantizer: it annotates an exported program for a target's :class:`Scheme`.

The annotation is by tensor: each stored role gets a quantize/dequantize pair behind its producer, moves (view,
permute, …) share the parameters of what they move, and everything else stays float. A layer computes in integers when
its input is stored, or is quantized on the way into the layer; then its weight is quantized too. Otherwise it computes
in float and gives floats, which a layer that reads them quantizes for itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, fx
from torchao.quantization.pt2e import ObserverOrFakeQuantize
from torchao.quantization.pt2e.quantizer import (
    DerivedQuantizationSpec,
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
    SharedQuantizationSpec,
)
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY, EdgeOrNode, QuantizationSpecBase

from levit_edge.errors import InputError
from quantize.hardswish import GATE_MAX, constant_value, hardswish, only_hardswish_reads, split_hardswish
from quantize.names import Kept, activation_key, find_kept
from quantize.observers import WEIGHT_MAX, ActivationObserver, PerChannelWeightObserver, bias_floor
from quantize.ranges import ActivationError, QParams, RangeMethod
from quantize.roles import is_constant, is_convolution, is_layer, is_move, layer_operands, role, source
from quantize.scheme import ATTENTION_INSIDE, READ_AS_FLOATS, Role, Scheme
from quantize.statistics import Histogram, merged

# Where these stay float, a layer that reads one gets it quantized. A tensor of any other role stays float only because
# the recipe or the target wants it so, and then the layer that reads it computes in float, too.
_FLOAT_BETWEEN_OPERATORS = ATTENTION_INSIDE | {Role.RESIDUAL, None}

_DTYPES = {"int8": torch.int8, "uint8": torch.uint8}


def _bias_qparams(observers: list[ObserverOrFakeQuantize]) -> tuple[Tensor, Tensor]:
    """Scale s_x * s_w per channel, zero point 0: what integer accumulators add (Jacob et al. 2018, equation 11)."""
    activation, weight = (observer.calculate_qparams()[0] for observer in observers)
    scale = activation * weight  # [1] * [C_out]
    return scale, torch.zeros_like(scale, dtype=torch.int64)


def _is_head_bias(bias: Tensor) -> bool:
    """True for an attention bias [heads, N_q, N_k] that has a scale for each head; a mask of -inf has none."""
    return bias.dim() == 3 and bool(bias.isfinite().all())


class SchemeQuantizer(Quantizer):
    """Annotates for ``scheme``, with ranges from ``histograms``: by node name, one for each tensor to be quantized."""

    def __init__(
        self,
        scheme: Scheme,
        histograms: Mapping[str, Histogram],
        *,
        activation_range: RangeMethod = "mse",
        activation_error: ActivationError = "tensor",
        weight_range: RangeMethod = "minmax",
        weights_only: bool = False,
        keep_float: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.scheme, self.histograms = scheme, dict(histograms)
        self.activation_range, self.weight_range, self.weights_only = activation_range, weight_range, weights_only
        self.activation_error = activation_error
        self.keep_float, self._kept = keep_float, Kept(frozenset(), frozenset())
        self._float_outputs = set[fx.Node]()
        self._activation = QuantizationSpec(
            dtype=_DTYPES[scheme.activation_dtype],
            observer_or_fake_quant_ctr=ActivationObserver,
            quant_min=scheme.quant_min,
            quant_max=scheme.quant_max,
            qscheme=torch.per_tensor_affine,
        )
        self._weight = QuantizationSpec(
            dtype=torch.int8,
            observer_or_fake_quant_ctr=PerChannelWeightObserver,
            quant_min=-WEIGHT_MAX,
            quant_max=WEIGHT_MAX,
            qscheme=torch.per_channel_symmetric,
            ch_axis=0,
        )

    def transform_for_annotation(self, model: fx.GraphModule) -> fx.GraphModule:
        self._kept = find_kept(model.graph, self.keep_float)
        for node in model.graph.nodes:  # from the image on: whether a layer is float depends on those before it
            if is_layer(node) and not self._layer_inputs(node):
                self._float_outputs.add(node)
        if self.scheme.hardswish == "integer":
            kept = self._kept.tensors | self._float_outputs
            for name, whole in split_hardswish(model, self.scheme.stored, kept).items():
                self.histograms[name] = self.histograms[whole].scaled(GATE_MAX)
        return model

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        for node in model.graph.nodes:
            inputs = self._inputs(model, node)
            self._check_kept(node, inputs)
            output = self._activation if role(node) is not None and self._is_stored(node) else None
            if is_move(node) and self._is_stored(node):
                output = SharedQuantizationSpec(node.all_input_nodes[0])
            if inputs or output is not None:
                node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(inputs, output, _annotated=True)
        return model

    def _is_stored(self, node: fx.Node) -> bool:
        tensor = source(node)
        wanted = role(tensor) in self.scheme.stored
        wanted |= is_convolution(tensor) and role(tensor) in self.scheme.convolutions
        return wanted and tensor not in self._kept.tensors | self._float_outputs

    def _check_kept(self, node: fx.Node, inputs: Mapping[fx.Node, QuantizationSpecBase | None]) -> None:
        """InputError where an integer layer would have to give floats, and the target has no such layer."""
        required = self.scheme.required_of(convolution=is_convolution(node))
        if node in self._kept.tensors and inputs and role(node) in required:
            name = " ".join(activation_key([node]))
            raise InputError(f"keep_float has {name!r}, but an integer layer of this target gives only integers")

    def _inputs(self, model: fx.GraphModule, node: fx.Node) -> dict[fx.Node, QuantizationSpecBase | None]:
        if is_layer(node):
            return self._layer_inputs(node)
        constants = [operand for operand in node.all_input_nodes if is_constant(operand)]
        if role(node) is Role.GATE:
            return dict.fromkeys(constants, self._activation)
        if role(node) is Role.BIASED_SCORES and self.scheme.constant_bias == "weight":
            return {bias: self._weight for bias in constants if _is_head_bias(constant_value(model, bias))}
        return {}

    def _layer_inputs(self, node: fx.Node) -> dict[fx.Node, QuantizationSpecBase | None]:
        x, weight, bias = layer_operands(node)
        if node in self._kept.layers:
            return {}
        if self.weights_only:
            return {weight: self._weight}
        if self._is_stored(x):
            specs: dict[fx.Node, QuantizationSpecBase | None] = {x: SharedQuantizationSpec(x), weight: self._weight}
        elif self._is_read_as_integers(x):
            specs = {x: self._activation, weight: self._weight}
        else:
            return {}
        if self.scheme.integer_bias and bias is not None:
            specs[bias] = DerivedQuantizationSpec(
                derived_from=[(x, node), (weight, node)],
                derive_qparams_fn=_bias_qparams,
                dtype=torch.int32,
                quant_min=-(2**31),
                quant_max=2**31 - 1,
                qscheme=torch.per_channel_symmetric,
                ch_axis=0,
            )
        return specs

    def _is_read_as_integers(self, x: fx.Node) -> bool:
        """True for a tensor that is float between operators and that a layer quantizes for itself."""
        tensor = source(x)
        between = role(tensor) in _FLOAT_BETWEEN_OPERATORS or tensor in self._float_outputs
        return self.scheme.float_residual and between and tensor not in self._kept.tensors

    def validate(self, model: fx.GraphModule) -> None:
        """Nothing to check: an operator that is not understood stays float."""

    def prepare_obs_or_fq_callback(
        self, model: fx.GraphModule, edge_or_node_to_obs_or_fq: dict[EdgeOrNode, ObserverOrFakeQuantize]
    ) -> None:
        """Hand each observer its histogram or weight. PT2E calls this when it knows which tensors share an observer."""
        groups: dict[int, list[fx.Node]] = {}
        observers: dict[int, ObserverOrFakeQuantize] = {}
        for place, observer in edge_or_node_to_obs_or_fq.items():
            observers[id(observer)] = observer
            groups.setdefault(id(observer), []).append(place if isinstance(place, fx.Node) else place[0])
        for key, observer in observers.items():
            if isinstance(observer, ActivationObserver):
                self._hand_histogram(model, observer, groups[key])
            elif isinstance(observer, PerChannelWeightObserver):
                observer.method = self.weight_range
                observer.weight = constant_value(model, groups[key][0]).detach()
        self._hand_floors(model, edge_or_node_to_obs_or_fq)

    def _hand_floors(self, model: fx.GraphModule, observers: dict[EdgeOrNode, ObserverOrFakeQuantize]) -> None:
        for node in model.graph.nodes:
            if not is_layer(node):
                continue
            x, weight, bias = layer_operands(node)
            if bias is None or (x, node) not in observers:
                continue
            scale = float(observers[(x, node)].calculate_qparams()[0])
            floor, observer = bias_floor(constant_value(model, bias), scale), observers[(weight, node)]
            # layers that share a weight share its scales, too
            observer.floor = floor if observer.floor is None else torch.maximum(observer.floor, floor)

    def _hand_histogram(self, model: fx.GraphModule, observer: ActivationObserver, nodes: list[fx.Node]) -> None:
        observer.method = self.activation_range
        sources = {source(node) for node in nodes}
        if any(role(node) is Role.GATE for node in sources):
            observer.fixed = QParams(GATE_MAX / 255, self.scheme.quant_min)
            return
        if self.activation_error == "behind":
            if all(not is_constant(node) and only_hardswish_reads(node) for node in sources):
                observer.behind = hardswish
            elif all(role(node) in READ_AS_FLOATS for node in sources):
                observer.method = "minmax"
        parts = []
        for node in sorted(sources, key=lambda node: node.name):
            if is_constant(node):
                parts.append(Histogram())
                parts[-1].add(constant_value(model, node))
            else:
                parts.append(self.histograms[node.name])
        observer.histogram = merged(parts)
