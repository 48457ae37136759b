"""Image folders and archives → a deterministic sample → preprocessed tensors."""

from calibration.dataset import ImageItem, ImageSet, open_dataset
from calibration.decoding import BadImageError, decode
from calibration.identity import EvaluationHash, calibration_hash
from calibration.loader import UNKNOWN_CLASS, Batch, Loader, image_pixels, load
from calibration.pixel_modes import to_rgb
from calibration.preprocess import check_size, normalize, to_pixels
from calibration.sampling import remainder, sample

__all__ = [
    "UNKNOWN_CLASS",
    "BadImageError",
    "Batch",
    "EvaluationHash",
    "ImageItem",
    "ImageSet",
    "Loader",
    "calibration_hash",
    "check_size",
    "decode",
    "image_pixels",
    "load",
    "normalize",
    "open_dataset",
    "remainder",
    "sample",
    "to_pixels",
    "to_rgb",
]
