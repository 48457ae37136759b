"""The target for iOS and macOS: Core ML programs (``.mlpackage``), described by one frozen record.

They can be converted on any operating system, and executed on macOS.
"""

from __future__ import annotations

from quantize.scheme import ATTENTION_INPUTS, ATTENTION_INSIDE, ENDS, RESIDUAL_STREAM, Role, Scheme
from targets.coreml import MINIMUM_DEPLOYMENT_TARGET
from targets.target import Backend, Target


def _backend() -> Backend:
    from targets.coreml.contents import contents
    from targets.coreml.lower import lower
    from targets.coreml.run import load, load_reference
    from targets.coreml.tap import tap
    from targets.coreml.verify import judge, verify

    return Backend(
        lower=lower,
        load=load,
        contents=contents,
        tap=tap,
        load_for_tap=load_reference,
        judge=judge,
        verify=verify,
    )


TARGET = Target(
    name="coreml",
    model_file="model.mlpackage",
    reference_file="model.fp32.mlpackage",
    # Unsigned activations, as Apple's own quantizer makes them. Everything between quantize and dequantize may run in
    # integers from A17 Pro and M4 on; the rest computes in float16.
    scheme=Scheme(
        activation_dtype="uint8",
        stored=frozenset(Role) - ATTENTION_INSIDE - ATTENTION_INPUTS - RESIDUAL_STREAM - {Role.LOGITS},
        float_by_default=ENDS | {Role.FIRST},
        float_residual=True,
        constant_bias="weight",
    ),
    runtime="coreml",
    builds_with=("torch", "torchao", "coremltools"),
    runs_with=("coremltools",),
    load_backend=_backend,
    executes_on=("Darwin",),
    elsewhere="elsewhere a reference interpreter judges its accuracy, and its latency is not measured",
    float16=True,
    limits={
        "int8": {"max_size_ratio": 0.29},
        "w8a16": {"max_size_ratio": 0.29},
        "fp16": {"max_size_ratio": 0.55},
        "fp32": {"max_size_ratio": 1.05},
    },
    options={"minimum_deployment_target": MINIMUM_DEPLOYMENT_TARGET},
)
