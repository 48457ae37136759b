"""The target for Android: ExecuTorch programs whose every operator is in one XNNPACK delegate."""

from __future__ import annotations

from quantize.scheme import ATTENTION_INPUTS, ATTENTION_INSIDE, ENDS, Role, Scheme
from targets.target import Backend, Target


def _backend() -> Backend:
    from targets.xnnpack.contents import contents
    from targets.xnnpack.lower import lower
    from targets.xnnpack.run import XnnpackRunner
    from targets.xnnpack.tap import tap
    from targets.xnnpack.verify import judge, verify

    return Backend(lower=lower, load=XnnpackRunner, contents=contents, tap=tap, judge=judge, verify=verify)


TARGET = Target(
    name="executorch",
    model_file="model.pte",
    reference_file="model.fp32.pte",
    # XNNPACK has no integer Hardswish, softmax or batched product: they run in float between integer tensors. Its
    # integer linear gives integers only, so whatever a layer outputs must be stored. The attention bias stays float,
    # because a constant that is dequantized at run time is not taken into the delegate.
    scheme=Scheme(
        activation_dtype="int8",
        stored=frozenset(Role) - ATTENTION_INSIDE - {Role.RESIDUAL},
        float_by_default=ENDS,
        required=ATTENTION_INPUTS | {Role.LAYER, Role.BRANCH, Role.LOGITS},
        float_residual=True,
    ),
    runtime="executorch",
    builds_with=("torch", "torchao", "executorch"),
    runs_with=("executorch", "torch", "torchao"),
    load_backend=_backend,
    # The attention bias stays float and takes a larger share of the int8 file than elsewhere.
    limits={"int8": {"max_size_ratio": 0.32}, "fp32": {"max_size_ratio": 1.05}},
    options={"backend": "xnnpack"},
)
