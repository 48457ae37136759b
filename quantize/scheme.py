"""What a target wants of the quantized program: one frozen record per target, which the quantizer obeys."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Role(StrEnum):
    """What a tensor is, as far as the graph proves it; it decides whether a target stores the tensor as an integer.

    A tensor without a role, such as the output of a LayerNorm or a GELU, stays float.
    """

    IMAGE = "image"
    LAYER = "layer"  # output of a convolution or linear layer
    BRANCH = "branch"  # output of a layer that is only added to the residual stream
    QUERIES = "queries"  # output of a layer that gives only the q of an attention
    KEYS = "keys"  # the same of k
    VALUES = "values"  # the same of v
    SCORES = "scores"  # q @ k
    BIASED_SCORES = "biased_scores"  # scores + attention bias
    SOFTMAX = "softmax"
    CONTEXT = "context"  # softmax @ v
    FIRST = "first"  # what the first layer gives behind its activation, for the next layer
    GATE = "gate"  # x + 3, saturated to [0, 6], where Hardswish is written as a product
    HARDSWISH = "hardswish"
    RESIDUAL = "residual"  # x + block(x): the sum of two computed tensors
    POOLED = "pooled"  # a mean that only layers read
    LOGITS = "logits"


# Softmax over 196 tokens spreads its mass so thin that 8 uniform bits lose much of it, most of all with the scale of
# 1/256 that integer softmax kernels want. The scores feed nothing but softmax.
ATTENTION_INSIDE = frozenset({Role.SCORES, Role.BIASED_SCORES, Role.SOFTMAX, Role.CONTEXT})

# The outputs of layers that only attention reads, which computes in float.
ATTENTION_INPUTS = frozenset({Role.QUERIES, Role.KEYS, Role.VALUES})

# The first layer reads the image, and the head what is pooled: the most sensitive layers, and a small part of the work.
ENDS = frozenset({Role.IMAGE, Role.POOLED})

# An integer residual stream would be rounded at each addition, with the scale of its widest channel. Its sums stay
# float, and are quantized only on their way into a layer.
RESIDUAL_STREAM = frozenset({Role.RESIDUAL, Role.BRANCH})


# What no layer reads, but attention, the residual stream or the user, in float. A large value is worth more there than
# its square says: softmax takes its exponential, and a clipped one is wrong in the same direction for every token.
READ_AS_FLOATS = ATTENTION_INPUTS | {Role.BRANCH, Role.LOGITS}


@dataclass(frozen=True)
class Scheme:
    """The integer types and tensors of one target.

    ``activation_dtype`` is the storage of activations: affine, per-tensor, the whole 8-bit range. Weights are always
    int8, symmetric, per-channel, -127..127. ``stored`` are the roles that are integers between operators, ``required``
    those of them that a recipe may not keep float, and ``convolutions`` roles that are stored, whatever ``stored``
    says, where an integer convolution gives them, which gives nothing else. ``float_by_default`` are those that stay
    float where the recipe does not say which: they cost the most accuracy for the least work.

    ``float_residual``: the residual stream and all else that is float between operators is quantized where a layer
    reads it (else that layer computes in float). ``integer_bias``: layer biases are int32 with scale s_x * s_w (else
    float, quantized by the backend). ``constant_bias``: the attention bias is float, or int8 per head. ``hardswish``:
    computed in float, or as a saturating integer add and a multiply.
    """

    activation_dtype: Literal["int8", "uint8"]
    stored: frozenset[Role]
    required: frozenset[Role] = frozenset()
    convolutions: frozenset[Role] = frozenset()
    float_by_default: frozenset[Role] = frozenset()
    integer_bias: bool = False
    constant_bias: Literal["float", "weight"] = "float"
    hardswish: Literal["float", "integer"] = "float"
    float_residual: bool = False

    @property
    def quant_min(self) -> int:
        return -128 if self.activation_dtype == "int8" else 0

    @property
    def quant_max(self) -> int:
        return self.quant_min + 255

    def required_of(self, *, convolution: bool) -> frozenset[Role]:
        """The roles whose tensor must be stored where an integer layer gives it, which may be a ``convolution``."""
        return self.required | self.convolutions if convolution else self.required
