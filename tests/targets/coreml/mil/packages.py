"""Small packages written from MIL operators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools
from coremltools.converters.mil import Builder

Body = Callable[[Any], Any]


def write(path: Path, body: Body, shape: tuple[int, ...] = (1, 3, 8, 8), half: bool = False) -> Path:
    """A package whose program is ``body`` of one float32 input, converted without any of coremltools' passes."""

    @Builder.program(  # type: ignore[untyped-decorator]
        input_specs=[Builder.TensorSpec(shape)], opset_version=coremltools.target.iOS17
    )
    def program(image: Any) -> Any:
        return body(image)

    model = coremltools.convert(
        program,
        minimum_deployment_target=coremltools.target.iOS17,
        compute_precision=coremltools.precision.FLOAT16 if half else coremltools.precision.FLOAT32,
        pass_pipeline=coremltools.PassPipeline.DEFAULT if half else coremltools.PassPipeline.EMPTY,
        skip_model_load=True,
    )
    model.save(str(path))
    return path
