"""The one PT2E quantizer: it annotates an exported FusedLevit for a target's :class:`Scheme`.

The annotation is by tensor: each stored role gets a quantize/dequantize pair behind its producer, moves (view,
permute, …) share the parameters of what they move, and everything else stays float.
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

from quantize.hardswish import GATE_MAX, constant_value, split_hardswish
from quantize.observers import WEIGHT_MAX, ActivationObserver, PerChannelWeightObserver, bias_floor
from quantize.ranges import QParams, RangeMethod
from quantize.roles import LAYERS, is_constant, is_move, role, source
from quantize.scheme import Role, Scheme
from quantize.statistics import Histogram, merged

_DTYPES = {"int8": torch.int8, "uint8": torch.uint8}


def _bias_qparams(observers: list[ObserverOrFakeQuantize]) -> tuple[Tensor, Tensor]:
    """Scale s_x * s_w per channel, zero point 0: what integer accumulators add (Jacob et al. 2018, equation 11)."""
    activation, weight = (observer.calculate_qparams()[0] for observer in observers)
    scale = activation * weight  # [1] * [C_out]
    return scale, torch.zeros_like(scale, dtype=torch.int64)


class LevitQuantizer(Quantizer):
    """Annotates for ``scheme``; ranges come from ``histograms`` (by node name), one entry per stored tensor."""

    def __init__(
        self,
        scheme: Scheme,
        histograms: Mapping[str, Histogram],
        *,
        activation_range: RangeMethod = "mse",
        weight_range: RangeMethod = "minmax",
        weights_only: bool = False,
    ) -> None:
        super().__init__()
        self.scheme, self.histograms = scheme, dict(histograms)
        self.activation_range, self.weight_range, self.weights_only = activation_range, weight_range, weights_only
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
        if self.scheme.hardswish == "integer":
            for name, hardswish in split_hardswish(model, self.scheme.stored).items():
                self.histograms[name] = self.histograms[hardswish].scaled(GATE_MAX)
        return model

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        for node in model.graph.nodes:
            inputs, output = self._inputs(node), self._output(node)
            if inputs or output is not None:
                node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(inputs, output, _annotated=True)
        return model

    def _is_stored(self, node: fx.Node) -> bool:
        return role(source(node)) in self.scheme.stored

    def _output(self, node: fx.Node) -> QuantizationSpecBase | None:
        if is_move(node) and self._is_stored(node):
            return SharedQuantizationSpec(node.all_input_nodes[0])
        return self._activation if role(node) in self.scheme.stored else None

    def _inputs(self, node: fx.Node) -> dict[fx.Node, QuantizationSpecBase | None]:
        if node.op != "call_function":
            return {}
        if node.target in LAYERS:
            return self._layer_inputs(node)
        specs: dict[fx.Node, QuantizationSpecBase | None] = {}
        for arg in node.all_input_nodes:
            if is_constant(arg) and role(node) is Role.GATE:
                specs[arg] = self._activation
            elif is_constant(arg) and self.scheme.constant_bias == "weight":
                specs[arg] = self._weight
        return specs

    def _layer_inputs(self, node: fx.Node) -> dict[fx.Node, QuantizationSpecBase | None]:
        x, weight, bias = node.all_input_nodes
        if self.weights_only:
            return {weight: self._weight}
        if self._is_stored(x):
            specs: dict[fx.Node, QuantizationSpecBase | None] = {x: SharedQuantizationSpec(x), weight: self._weight}
        elif self.scheme.float_residual and role(source(x)) is Role.RESIDUAL:
            specs = {x: self._activation, weight: self._weight}
        else:
            return {}
        if self.scheme.integer_bias:
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

    def validate(self, model: fx.GraphModule) -> None:
        """Nothing to check: :func:`quantize.roles.role` has refused unknown operators already."""

    def prepare_obs_or_fq_callback(
        self, model: fx.GraphModule, edge_or_node_to_obs_or_fq: dict[EdgeOrNode, ObserverOrFakeQuantize]
    ) -> None:
        """Hand each observer its histogram or weight (PT2E calls this once the sharing groups are known)."""
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
            if node.target in LAYERS and (node.all_input_nodes[0], node) in observers:
                x, weight, bias = node.all_input_nodes
                scale = float(observers[(x, node)].calculate_qparams()[0])
                observers[(weight, node)].floor = bias_floor(constant_value(model, bias), scale)

    def _hand_histogram(self, model: fx.GraphModule, observer: ActivationObserver, nodes: list[fx.Node]) -> None:
        observer.method = self.activation_range
        sources = {source(node) for node in nodes}
        if any(role(node) is Role.GATE for node in sources):
            observer.fixed = QParams(GATE_MAX / 255, self.scheme.quant_min)
            return
        parts = []
        for node in sorted(sources, key=lambda node: node.name):
            if is_constant(node):
                parts.append(Histogram())
                parts[-1].add(constant_value(model, node))
            else:
                parts.append(self.histograms[node.name])
        observer.histogram = merged(parts)
