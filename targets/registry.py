"""The targets by name: one dict."""

from __future__ import annotations

from levit_edge.errors import InputError
from targets.coreml import target as mlprogram
from targets.coreml import verify as mlcheck
from targets.ort import target as ort
from targets.target import Target
from targets.xnnpack import target as xnnpack

_SIZES = {
    recipe: {"max_size_ratio": ratio}
    for recipe, ratio in {"int8": 0.29, "w8a16": 0.29, "fp16": 0.55, "fp32": 1.05}.items()
}
TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            name="executorch",
            model_file="model.pte",
            reference_file="model.fp32.pte",
            scheme=xnnpack.SCHEME,
            lower=xnnpack.lower,
            load=xnnpack.load,
            contents=xnnpack.contents,
            packages=("executorch",),
            options={"backend": "xnnpack"},
            limits=_SIZES | {"int8": {"max_size_ratio": 0.32}, "w8a16": {"max_size_ratio": 0.32}},
        ),
        Target(
            name="coreml",
            model_file="model.mlpackage",
            reference_file="model.fp32.mlpackage",
            scheme=mlprogram.SCHEME,
            lower=mlprogram.lower,
            load=mlprogram.load,
            contents=mlprogram.contents,
            packages=("coremltools",),
            options={"minimum_deployment_target": mlprogram.MINIMUM_DEPLOYMENT_TARGET},
            verify=mlcheck.verify,
            limits=_SIZES,
        ),
        Target(
            name="onnx",
            model_file="model.onnx",
            reference_file="model.fp32.onnx",
            scheme=ort.SCHEME,
            lower=ort.lower,
            load=ort.load,
            contents=ort.contents,
            packages=("onnx", "onnxscript", "onnxruntime"),
            options={"opset": str(ort.OPSET)},
            limits=_SIZES,
        ),
    )
}


def target(name: str) -> Target:
    """The target called ``name``; InputError with the valid names for any other."""
    if name not in TARGETS:
        raise InputError(f"unknown target {name!r}; valid: {', '.join(TARGETS)}")
    return TARGETS[name]
