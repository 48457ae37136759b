"""Step 1: the model of a build, loaded, checked, fused and traced."""

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
from levit_edge.pipeline.options import ModelOptions
from quantize.flow import trace


@dataclass(frozen=True)
class Subject:
    """A fused classifier, its program for one image, and all that a manifest says of it.

    ``fused`` and ``program`` compute float32 [B, C, H, W] -> [B, classes], the program for B = 1.
    """

    fused: nn.Module
    program: ExportedProgram
    info: ModelInfo
    labels: tuple[str, ...]
    num_channels: int
    image_size: int
    preprocessing: Preprocessing

    @property
    def example(self) -> Tensor:
        """Zeros in the shape of the input: float32 [1, C, H, W]."""
        return torch.zeros(1, self.num_channels, self.image_size, self.image_size)


def load(options: ModelOptions) -> Subject:
    """The model that ``options`` name; InputError when it is no classifier or cannot be loaded."""
    checkpoint = _checkpoint(options)
    if not checkpoint.labels:
        raise InputError(f"{checkpoint.source} is a backbone without a classification head; there is nothing to verify")
    source = Path(checkpoint.source)
    info = ModelInfo(
        variant=checkpoint.variant,
        source=source.name if source.is_absolute() else checkpoint.source,  # a report names no folder of this machine
        sha256=checkpoint.sha256,
        parameters=checkpoint.parameters,
        random_weights=options.random_weights,
    )
    fused = family(checkpoint.family).fuse(checkpoint.model)
    example = torch.zeros(1, checkpoint.num_channels, checkpoint.image_size, checkpoint.image_size)
    return Subject(
        fused=fused,
        program=trace(fused, example),
        info=info,
        labels=checkpoint.labels,
        num_channels=checkpoint.num_channels,
        image_size=checkpoint.image_size,
        preprocessing=checkpoint.preprocessing,
    )


def _checkpoint(options: ModelOptions) -> Checkpoint:
    labels = None if options.labels is None else _read_labels(options.labels)
    if options.model is None:
        return demo_checkpoint()
    if isinstance(options.model, nn.Module):
        return from_module(options.model, labels=labels)
    return resolve(options.model, random_weights=options.random_weights, labels=labels)


def _read_labels(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"labels {path} cannot be read: {error}") from None
    labels = tuple(line.strip() for line in lines if line.strip())
    if not labels:
        raise InputError(f"labels {path} is empty; give one class name a line")
    return labels
