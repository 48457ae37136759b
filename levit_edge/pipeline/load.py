"""The model of a build: loaded, checked, fused and traced."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from levit_edge.bundle.manifest import ModelInfo
from levit_edge.demo import demo_checkpoint
from levit_edge.errors import InputError
from levit_edge.families.family import Checkpoint
from levit_edge.families.load import from_module, resolve
from levit_edge.families.preprocessing import Preprocessing
from levit_edge.families.registry import family
from levit_edge.pipeline.options import BuildOptions
from quantize.flow import trace


@dataclass(frozen=True)
class Subject:
    """A fused classifier, its program for one image, and all that a manifest says of it.

    ``config`` has the classes and the size of the input.
    """

    fused: nn.Module
    program: ExportedProgram
    info: ModelInfo
    config: Checkpoint

    @property
    def labels(self) -> tuple[str, ...]:
        return self.config.labels

    @property
    def preprocessing(self) -> Preprocessing:
        return self.config.preprocessing

    @property
    def example(self) -> Tensor:
        """Zeros in the shape of the input: float32 [1, C, H, W]."""
        size = self.config.image_size
        return torch.zeros(1, self.config.num_channels, size, size)


def load_subject(options: BuildOptions) -> Subject:
    """The model that ``options`` name; InputError when it is no classifier or its preprocessing does not fit it."""
    checkpoint = _checkpoint(options, _read_labels(options.labels))
    if not checkpoint.labels:
        raise InputError(f"{checkpoint.source} is a backbone without a classification head; there is nothing to verify")
    info = ModelInfo(
        variant=checkpoint.variant,
        source=_portable(checkpoint.source),
        sha256=checkpoint.sha256,
        parameters=checkpoint.parameters,
    )
    fused = family(checkpoint.family).fuse(checkpoint.model)
    example = torch.zeros(1, checkpoint.num_channels, checkpoint.image_size, checkpoint.image_size)
    return Subject(fused, trace(fused, example), info, checkpoint)


def _checkpoint(options: BuildOptions, labels: tuple[str, ...] | None) -> Checkpoint:
    if options.model is None:
        return demo_checkpoint()
    if isinstance(options.model, nn.Module):
        return from_module(options.model, labels)
    return resolve(options.model, random_weights=options.random_weights, labels=labels)


def _read_labels(path: Path | None) -> tuple[str, ...] | None:
    if path is None:
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"labels {path} cannot be read: {error}") from None
    labels = tuple(line.strip() for line in lines if line.strip())
    if not labels:
        raise InputError(f"labels {path} is empty; give one class name a line")
    return labels


def _portable(source: str) -> str:
    """The last part of an absolute path: a report says nothing of the machine that wrote it."""
    return Path(source).name if Path(source).is_absolute() else source
