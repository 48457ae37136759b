"""What turns a photograph into the model's input: parameters only; ``calibration.preprocess`` does the work."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from levit_edge.record import Record

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Resampling = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
RESAMPLINGS: tuple[Resampling, ...] = get_args(Resampling)  # the index is Pillow's number of the filter


class Preprocessing(Record):
    """Parameters of an image processor; names and defaults follow ``preprocessor_config.json`` of transformers.

    ``shortest_edge`` N resizes the shorter side to ``int(256 / 224 * N)`` pixels; ``resize_to`` (height, width)
    resizes to that size exactly; one of the two is set. ``crop_size`` is (height, width) of the centre crop. The
    result is float32 [channels, height, width]: uint8 * ``rescale_factor``, then ``(x - mean) / std``.
    """

    do_resize: bool = True
    shortest_edge: int | None = Field(default=224, ge=1)
    resize_to: tuple[int, int] | None = None
    resample: Resampling = "bicubic"
    do_center_crop: bool = True
    crop_size: tuple[int, int] = (224, 224)
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: tuple[float, ...] = IMAGENET_MEAN
    image_std: tuple[float, ...] = IMAGENET_STD
    num_channels: Literal[1, 3] = 3

    @model_validator(mode="after")
    def _check(self) -> Preprocessing:
        if (self.shortest_edge is None) == (self.resize_to is None):
            raise ValueError("give either shortest_edge or resize_to (height, width), not both")
        if self.resize_to is not None and min(self.resize_to) < 1:
            raise ValueError(f"resize_to is {self.resize_to}; both sides must be at least 1")
        if min(self.crop_size) < 1:
            raise ValueError(f"crop_size is {self.crop_size}; both sides must be at least 1")
        for name, values in (("image_mean", self.image_mean), ("image_std", self.image_std)):
            if len(values) != self.num_channels:
                raise ValueError(f"{name} has {len(values)} entries; the model takes {self.num_channels} channels")
        if min(self.image_std) <= 0:
            raise ValueError(f"image_std is {self.image_std}; every entry must be positive")
        return self

    @property
    def output_size(self) -> tuple[int, int] | None:
        """(height, width) of every prepared image in pixels; None where it depends on the photograph."""
        if self.do_center_crop:
            return self.crop_size
        return self.resize_to if self.do_resize else None

    def summary(self) -> dict[str, Any]:
        """Plain JSON values, for manifests and hashes."""
        return self.model_dump(mode="json")
