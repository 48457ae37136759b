"""A Core ML program in the reference interpreter: what a ``.mlpackage`` computes, without Core ML."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from levit_edge.errors import InputError
from targets.coreml.mil.interpreter import Plan, Planner
from targets.coreml.mil.reading import read
from targets.coreml.mil.records import FLOATS, PRECISIONS, Operation, Precision, Source, Traced, Value

BATCH_IMAGES = 8  # more at once overflow the processor's cache


def load(package: Path) -> Program:
    """The program of a ``.mlpackage``, read from disk and checked to be computable.

    Raises InputError, in one line, when the package is damaged, or holds an operator, mode or type that the interpreter
    does not know, which it names.
    """
    program = Program(read(package))
    with torch.inference_mode():
        program.plan("declared").check()
    return program


def _tensor(images: NDArray[np.float32]) -> Tensor:
    """The images as a tensor; read-only ones are copied, because torch shares only memory that it may write to."""
    return torch.from_numpy(np.require(images, requirements="W"))


class Program:
    """A loaded program. Torch computes it, with its current number of threads."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._plans: dict[Precision, Plan] = {}

    @property
    def input(self) -> Value:
        """The image: its name, type and shape [1, C, H, W]."""
        return self._source.input

    @property
    def output(self) -> Value:
        """The logits: their name, type and shape [1, K]."""
        return self._source.output

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The operators in the order of the program, without its constants."""
        return self._source.operations

    def run(self, images: NDArray[np.float32], precision: Precision = "declared") -> NDArray[np.float32]:
        """float32 [B, C, H, W] -> float32 [B, K], BATCH_IMAGES at a time; no image affects another.

        Torch adds floats in another order for a batch than for one image. Their logits may therefore differ in the last
        bits of float32, and by one quantization step, with its consequences, where such a bit decides how a tie rounds.
        """
        self._check_images(images, images.shape[:1])
        plan = self.plan(precision)
        with torch.inference_mode():
            parts = [self._logits(plan, part) for part in _tensor(images).split(BATCH_IMAGES)]
        logits: NDArray[np.float32] = torch.cat(parts).numpy()
        return logits

    def _logits(self, plan: Plan, images: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, K]."""
        if len(images) == 1:
            return plan.run(images)[self.output.name]
        one = torch.func.vmap(lambda image: plan.run(image)[self.output.name])
        return one(images.unsqueeze(1)).squeeze(1)  # [B, 1, C, H, W] -> [B, 1, K] -> [B, K]

    def trace(
        self, image: NDArray[np.float32], names: Iterable[str], precision: Precision = "declared"
    ) -> dict[str, Traced]:
        """The tensors called ``names`` for one image float32 [1, C, H, W].

        A name is that of any output of an operator, or of the image; InputError for any other.
        """
        self._check_images(image, (1,))
        wanted = tuple(names)
        values = {value.name: value for operation in self.operations for value in operation.outputs}
        values[self.input.name] = self.input
        for name in wanted:
            if name not in values:
                valid = "the input and the outputs of operators"
                raise InputError(f"{self._source.package}: no operator writes {name!r}; valid: {valid}")
        with torch.inference_mode():
            found = self.plan(precision).run(_tensor(image), wanted)
        return {name: self._traced(values[name], found[name]) for name in wanted}

    def _traced(self, value: Value, tensor: Tensor) -> Traced:
        numbers = tensor.to(torch.float32).numpy().copy()
        if value.dtype in FLOATS or not np.isfinite(numbers).all():
            return Traced(numbers)
        owners = (operation for operation in self.operations if value.name in operation.output_names)
        quantization = next((operation.quantization for operation in owners), None)
        real = numbers if quantization is None else quantization.real(numbers)
        return Traced(real, tensor.to(torch.int32).numpy().copy())

    def plan(self, precision: Precision) -> Plan:
        """The program prepared for a precision, when first asked for."""
        if precision not in PRECISIONS:
            raise InputError(f"unknown precision {precision!r}; valid: {', '.join(PRECISIONS)}")
        if precision not in self._plans:
            with torch.inference_mode():
                self._plans[precision] = Planner(self._source, precision).plan()
        return self._plans[precision]

    def _check_images(self, images: NDArray[np.float32], batch: tuple[int, ...]) -> None:
        shape = (*batch, *self.input.shape[1:])
        if images.dtype != np.float32 or images.shape != shape or not images.size:
            raise InputError(
                f"{self._source.package} takes float32 {list(shape)}, not {images.dtype} {list(images.shape)}"
            )
