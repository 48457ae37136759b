"""Small packages written from MIL operators, for what no LeViT holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools
import numpy as np
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


def neighbours(image: Any) -> Any:
    """Operators that an exporter may choose instead of those it does choose. [1, 3, 8, 8] -> [1, 12]."""
    left, right = Builder.split(x=image, num_splits=2, axis=2)  # [1, 3, 4, 8] each
    x = Builder.concat(values=(right, left), axis=-1, interleave=False)  # [1, 3, 4, 16]
    x = Builder.slice_by_index(x=x, begin=[0, 0, 0, 0], end=[1, 3, 4, 16], stride=[1, 1, 1, 2])  # [1, 3, 4, 8]
    x = Builder.slice_by_size(x=x, begin=[0, 0, 0, 2], size=[-1, -1, -1, 4])  # [1, 3, 4, 4]
    x = Builder.gather(x=x, indices=np.array([2, 0, 1, 1], np.int32), axis=1)  # [1, 4, 4, 4]
    x = Builder.squeeze(x=Builder.expand_dims(x=x, axes=[2]), axes=[2])
    x = Builder.clip(x=Builder.sub(x=x, y=np.float32(0.25)), alpha=np.float32(-1), beta=np.float32(1.5))
    x = Builder.real_div(x=x, y=Builder.add(x=Builder.exp(x=x), y=np.float32(1)))
    x = Builder.maximum(x=Builder.relu6(x=x), y=Builder.minimum(x=x, y=np.float32(0.1)))
    x = Builder.avg_pool(x=x, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid")  # [1, 4, 2, 2]
    flat = Builder.reshape(x=x, shape=[0, -1])  # [1, 16]
    summed = Builder.reduce_sum(x=x, axes=[2, 3], keep_dims=False)  # [1, 4]
    return Builder.concat(values=(summed, Builder.slice_by_size(x=flat, begin=[0, 0], size=[1, 8])), axis=1)


def neighbours_in_numpy(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same in float64. [1, 3, 8, 8] -> [1, 12]."""
    x = image.astype(np.float64)
    x = np.concatenate([x[:, :, 4:], x[:, :, :4]], axis=3)[:, :, :, ::2][:, :, :, 2:6][:, [2, 0, 1, 1]]
    x = np.clip(x - 0.25, -1, 1.5)
    x = x / (np.exp(x) + 1)
    x = np.maximum(np.clip(x, 0, 6), np.minimum(x, 0.1))
    x = x.reshape(1, 4, 2, 2, 2, 2).mean((3, 5))  # [1, 4, 4, 4] -> [1, 4, 2, 2]
    return np.concatenate([x.sum((2, 3)), x.reshape(1, 16)[:, :8]], axis=1)
