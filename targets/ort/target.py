"""The target for ARM Linux: QDQ models that ONNX Runtime's CPU provider fuses into integer kernels."""

from __future__ import annotations

from quantize.scheme import ATTENTION_INPUTS, ATTENTION_INSIDE, ENDS, RESIDUAL_STREAM, Role, Scheme
from targets.ort import OPSET
from targets.target import Backend, Target


def _backend() -> Backend:
    from targets.ort.contents import contents
    from targets.ort.lower import lower
    from targets.ort.run import OrtRunner
    from targets.ort.tap import tap
    from targets.ort.verify import judge, verify

    return Backend(lower=lower, load=OrtRunner, contents=contents, tap=tap, judge=judge, verify=verify)


TARGET = Target(
    name="onnx",
    model_file="model.onnx",
    reference_file="model.fp32.onnx",
    # Unsigned activations, because only they fuse with several consumers on x86 and ARM alike; int32 biases, because
    # only they go into QGemm and QLinearConv. QGemm can give floats (QLinearConv cannot), so what is not an input of
    # the next layer stays float: attention between its linear layers, the logits (no ties between classes), and the
    # residual stream with all that is added to it.
    scheme=Scheme(
        activation_dtype="uint8",
        stored=frozenset(Role) - ATTENTION_INSIDE - ATTENTION_INPUTS - RESIDUAL_STREAM - {Role.LOGITS},
        float_by_default=ENDS | {Role.FIRST},
        float_residual=True,
        integer_bias=True,
        convolutions=frozenset(Role),
        constant_bias="weight",
        hardswish="integer",
    ),
    runtime="onnxruntime",
    builds_with=("torch", "torchao", "onnx", "onnxscript"),
    runs_with=("onnxruntime",),
    load_backend=_backend,
    limits={"int8": {"max_size_ratio": 0.29}, "fp32": {"max_size_ratio": 1.05}},
    options={"opset": str(OPSET)},
)
