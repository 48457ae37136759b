"""What an operator gives by coremltools' own value inference, and by the interpreter, for the same arguments."""

from __future__ import annotations

from typing import Any

import coremltools
import numpy as np
import torch
from coremltools.converters.mil import Builder
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from targets.coreml.mil.catalogue import OPERATORS

Array = NDArray[Any]

# Few examples: each builds a MIL program. The seeds make numpy arrays, whose own strategies are slow.
FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEEDS = st.integers(0, 2**32 - 1)
SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)
EDGES = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 0.0, -3.0, 3.0, 6.0, 1e30, -1e30, np.inf, -np.inf], np.float32)


def numbers(seed: int, shape: tuple[int, ...], edges: bool = False) -> NDArray[np.float32]:
    """Normal numbers; about a third of them edge values when ``edges``."""
    random = np.random.default_rng(seed)
    values = random.normal(0, 3, shape).astype(np.float32)
    return np.where(random.random(shape) < 0.3, random.choice(EDGES, shape), values) if edges else values


def inferred(kind: str, **arguments: Any) -> Any:
    """The value that coremltools infers for an operator of constants: an array, or a tuple of them."""
    found: list[Any] = []
    copies = {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in arguments.items()}

    @Builder.program(  # type: ignore[untyped-decorator]
        input_specs=[Builder.TensorSpec((1,))], opset_version=coremltools.target.iOS17
    )
    def program(unused: Any) -> Any:
        with np.errstate(all="ignore"):
            result = getattr(Builder, kind)(**copies)
        for variable in result if isinstance(result, tuple | list) else [result]:
            operation = variable.op
            stored = kind == "dequantize" or kind.startswith("constexpr")
            found.append(operation.materialized_val_inference() if stored else variable.val)
        return Builder.identity(x=unused)

    return found[0] if len(found) == 1 else tuple(found)


def _tensor(value: Any) -> Any:
    """As the interpreter stores it: floats and bytes in float32, other integers in int32."""
    if isinstance(value, list | tuple):
        return tuple(_tensor(item) for item in value)
    array = np.asarray(value)
    if array.dtype in (np.bool_, np.int32):
        return torch.from_numpy(array.copy())
    return torch.from_numpy(array.astype(np.float32))


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def computed(kind: str, **arguments: Any) -> Any:
    """The interpreter's result: an array, or a tuple of them."""
    operator = OPERATORS[kind]
    result = operator.compute(
        **{key: _tensor(value) if key in operator.tensors else _plain(value) for key, value in arguments.items()}
    )
    return tuple(part.numpy() for part in result) if isinstance(result, tuple) else result.numpy()


def check(kind: str, tolerance: float = 1e-6, **arguments: Any) -> None:
    """Assert that both give the same shapes and numbers."""
    expected, found = inferred(kind, **arguments), computed(kind, **arguments)
    if not isinstance(found, tuple):
        expected, found = (expected,), (found,)
    assert len(expected) == len(found)
    for ours, theirs in zip(found, expected, strict=True):
        close(ours, theirs, tolerance)


def close(found: Array, expected: Any, tolerance: float = 1e-6) -> None:
    """Assert equal shapes, and numbers equal to within ``tolerance``, relative for large ones."""
    wanted = np.asarray(expected)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(
        found.astype(np.float64), wanted.astype(np.float64), rtol=tolerance, atol=tolerance, equal_nan=True
    )
