"""The model of a build: loaded, checked, fused and traced."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from calibration import default_preprocessing, preprocessing_from_hf
from levit_edge.bundle.manifest import ModelInfo
from levit_edge.demo import demo_checkpoint
from levit_edge.errors import InputError
from levit_edge.families.levit.checkpoint import Checkpoint, from_module, resolve_model
from levit_edge.families.levit.config import LevitConfig, numbered_labels, variant_name
from levit_edge.families.levit.fuse import FusedLevit, fuse
from levit_edge.families.preprocessing import Preprocessing
from levit_edge.families.weights import fingerprint
from levit_edge.pipeline.options import BuildOptions
from quantize.flow import trace


@dataclass(frozen=True)
class Subject:
    """A fused classifier, its program for one image, and all that a manifest says of it."""

    fused: FusedLevit
    program: ExportedProgram
    info: ModelInfo
    config: LevitConfig
    preprocessing: Preprocessing

    @property
    def labels(self) -> tuple[str, ...]:
        return self.config.labels

    @property
    def example(self) -> Tensor:
        """Zeros in the shape of the input: float32 [1, C, H, W]."""
        size = self.config.image_size
        return torch.zeros(1, self.config.num_channels, size, size)


def load_subject(options: BuildOptions) -> Subject:
    """The model that ``options`` name; InputError when it is no classifier or its preprocessing does not fit it."""
    labels = _read_labels(options.labels)
    if isinstance(options.model, FusedLevit):
        return _from_fused(options.model, labels)
    checkpoint = _checkpoint(options, labels)
    if not checkpoint.model.heads:
        raise InputError(f"{checkpoint.source} is a backbone without a classification head; there is nothing to verify")
    info = ModelInfo(
        variant=checkpoint.variant,
        source=_portable(checkpoint.source),
        sha256=checkpoint.sha256,
        parameters=sum(parameter.numel() for parameter in checkpoint.model.parameters()),
    )
    preprocessing = _preprocessing(checkpoint.config, checkpoint.preprocessing_config, checkpoint.source)
    return _subject(fuse(checkpoint.model), info, checkpoint.config, preprocessing)


def _checkpoint(options: BuildOptions, labels: tuple[str, ...] | None) -> Checkpoint:
    if options.model is None:
        return demo_checkpoint()
    if isinstance(options.model, nn.Module):
        return from_module(options.model, labels=labels)
    return resolve_model(options.model, options.random_weights, labels=labels)


def _from_fused(model: FusedLevit, labels: tuple[str, ...] | None) -> Subject:
    if model.head is None:
        raise InputError("the FusedLevit has no classification head; there is nothing to verify")
    config = model.config.with_labels(labels or model.config.labels or numbered_labels(model.head.out_features))
    if config.num_labels != model.head.out_features:
        raise InputError(f"{config.num_labels} labels were given; the model has {model.head.out_features} classes")
    info = ModelInfo(
        variant=variant_name(config),
        source=type(model).__name__,
        sha256=fingerprint(model.state_dict()),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
    fused = deepcopy(model).cpu().float()  # the caller's module stays as it is
    for name, tensor in fused.state_dict().items():
        if not tensor.isfinite().all():
            raise InputError(f"the FusedLevit has NaN or infinity in {name}")
    return _subject(fused, info, config, _preprocessing(config, None, info.source))


def _subject(fused: FusedLevit, info: ModelInfo, config: LevitConfig, preprocessing: Preprocessing) -> Subject:
    example = torch.zeros(1, config.num_channels, config.image_size, config.image_size)
    return Subject(fused, trace(fused, example), info, config, preprocessing)


def _preprocessing(config: LevitConfig, stated: dict[str, object] | None, source: str) -> Preprocessing:
    if stated is None:
        return default_preprocessing(config.image_size, config.num_channels)
    preprocessing = preprocessing_from_hf(stated, num_channels=config.num_channels)
    size = (config.image_size, config.image_size)
    resized = preprocessing.resize_to if preprocessing.do_resize else None
    given = preprocessing.crop_size if preprocessing.do_center_crop else resized
    if given is None:
        raise InputError(
            f"{source}: the image processor neither crops nor resizes to the {size[0]} pixels of the model"
        )
    if given != size:
        raise InputError(f"{source}: the image processor gives {given[0]}x{given[1]} pixels; the model takes {size[0]}")
    return preprocessing


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
