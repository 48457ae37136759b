"""Opening finished bundles for the verbs that use them."""

from __future__ import annotations

from pathlib import Path

from calibration import check_size, image_pixels, normalize
from levit_edge.bundle.files import clear_os_errors
from levit_edge.bundle.manifest import Bundle, open_bundle
from levit_edge.errors import InputError
from targets.registry import target
from targets.runner import Image
from targets.target import Target


def open_verified(path: Path) -> tuple[Bundle, Target]:
    """The bundle at ``path`` and its target, with every file as it was built; InputError otherwise."""
    bundle = open_bundle(path)
    chosen = target(bundle.manifest.target)
    bundle.verify()
    return bundle, chosen


def read_image(bundle: Bundle, image: Path) -> Image:
    """An image file as the model takes it: float32 [1, C, H, W]; InputError for what is no image, or too small."""
    if not image.is_file():
        raise InputError(f"{image} does not exist or is not a file; name an image file")
    with clear_os_errors(image):
        data = image.read_bytes()
    preprocessing = bundle.manifest.preprocessing
    pixels = image_pixels(data, str(image), preprocessing)
    height, width = bundle.manifest.inputs[0].shape[2:]
    check_size(pixels, (height, width), str(image))
    batch: Image = normalize(pixels, preprocessing)[None]  # [C, H, W] -> [1, C, H, W]
    return batch
