"""The preprocessing against transformers' own LeViT image processor: equal pixels, equal tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.levit.image_processing_pil_levit import LevitImageProcessorPil

from calibration import check_size, normalize, to_pixels
from calibration.decoding import MAX_PIXELS
from levit_edge.errors import InputError
from levit_edge.families.levit.image_processor import default_preprocessing, preprocessing_from_hf
from levit_edge.families.preprocessing import Preprocessing
from tests.places import SHARED

MakePhoto = Callable[..., Image.Image]
REAL = SHARED / "data" / "imagenet-samples"
SIZES = {
    "portrait": (330, 250),
    "landscape": (250, 375),
    "small": (68, 121),
    "large": (1600, 2400),
    "square": (224, 224),
    "exact": (256, 300),
    "sliver": (9, 400),
}
CONFIGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "old style": {"size": 224, "resample": 3, "feature_extractor_type": "LevitFeatureExtractor"},
    "192": {"size": {"shortest_edge": 192}, "crop_size": {"height": 192, "width": 192}},
    "height and width": {"size": {"height": 191, "width": 260}},
    "square size": {"size": 200, "default_to_square": True},
    "list": {"size": [240, 230], "crop_size": [224, 200]},
    "odd crop": {"crop_size": {"height": 223, "width": 101}},
    "crop larger": {"size": {"shortest_edge": 100}, "crop_size": {"height": 301, "width": 224}},
    "crop wider": {"size": {"height": 300, "width": 90}, "crop_size": {"height": 100, "width": 221}},
    "no resize": {"do_resize": False},
    "no crop": {"do_center_crop": False},
    "no rescale": {"do_rescale": False},
    "no normalize": {"do_normalize": False},
    "other range": {"rescale_factor": 1 / 127.5, "image_mean": [1.0, 1.0, 1.0], "image_std": [1.0, 1.0, 1.0]},
    "one mean": {"image_mean": 0.5, "image_std": 0.25},
    **{f"resample {number}": {"resample": number} for number in range(6)},
}


def _assert_parity(image: Image.Image, config: dict[str, Any]) -> None:
    theirs = LevitImageProcessorPil(**config, do_convert_rgb=True)
    ours = preprocessing_from_hf(config)
    pixels = to_pixels(image, ours)
    expected = theirs(image, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
    assert pixels.dtype == expected.dtype == np.uint8
    np.testing.assert_array_equal(pixels.transpose(2, 0, 1), expected)
    inputs = normalize(pixels, ours)
    assert inputs.dtype == np.float32
    assert inputs.flags.c_contiguous
    np.testing.assert_allclose(inputs, theirs(image, return_tensors="np")["pixel_values"][0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_every_shape_with_defaults(photo: MakePhoto, size: tuple[int, int]) -> None:
    _assert_parity(photo(*size), {})


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("size", [(190, 251), (330, 250)], ids=["landscape", "portrait"])
def test_every_parameter(photo: MakePhoto, config: dict[str, Any], size: tuple[int, int]) -> None:
    _assert_parity(photo(*size), config)


def test_greyscale_becomes_three_channels(photo: MakePhoto) -> None:
    _assert_parity(photo(300, 260).convert("L"), {})


@pytest.mark.parametrize("kind", ["L", "RGB"])
def test_one_channel(photo: MakePhoto, kind: str) -> None:
    grey = photo(300, 260).convert("L")
    ours = default_preprocessing(96, num_channels=1)
    pixels = to_pixels(grey if kind == "L" else grey.convert("RGB"), ours)
    theirs = LevitImageProcessorPil(size=96, crop_size=96, image_mean=list(ours.image_mean), image_std=[0.226])
    expected = theirs(grey, return_tensors="np")["pixel_values"][0]
    assert pixels.shape == (96, 96, 1)
    np.testing.assert_allclose(normalize(pixels, ours), expected, rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    edge=st.integers(1, 40),
    crop=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    do_resize=st.booleans(),
)
def test_any_size_and_crop(height: int, width: int, edge: int, crop: tuple[int, int], do_resize: bool) -> None:
    noise = np.random.default_rng(height * 91 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    config = {"size": edge, "crop_size": {"height": crop[0], "width": crop[1]}, "do_resize": do_resize}
    _assert_parity(Image.fromarray(noise), config)


def test_real_photographs() -> None:
    photographs = sorted(REAL.glob("*/*.JPEG"))
    if not photographs:
        pytest.skip("the ImageNet samples are not beside the repository")
    shapes = set()
    for path in photographs[::25]:
        with Image.open(path) as image:
            shapes.add((image.mode, image.width > image.height))
            _assert_parity(image, {})
    assert {("RGB", True), ("RGB", False)} <= shapes


def test_real_greyscale_photographs() -> None:
    if not REAL.is_dir():
        pytest.skip("the ImageNet samples are not beside the repository")
    tested = 0
    for path in sorted(REAL.glob("*/*.JPEG")):
        with Image.open(path) as image:
            if image.mode == "L":
                _assert_parity(image, {})
                tested += 1
        if tested == 3:
            break
    assert tested


def test_a_batch_is_normalised_like_its_images(photo: MakePhoto) -> None:
    p = default_preprocessing(32)
    pixels = np.stack([to_pixels(photo(50, 60, seed), p) for seed in range(3)])
    batch = normalize(pixels, p)
    assert batch.shape == (3, 3, 32, 32)
    assert batch.flags.c_contiguous
    for one, image in zip(batch, pixels, strict=True):
        np.testing.assert_array_equal(one, normalize(image, p))


def test_transparent_pixels_are_white_as_in_transformers(photo: MakePhoto) -> None:
    image = photo(80, 90)
    image.putalpha(photo(80, 90, 1).convert("L"))
    _assert_parity(image, {"size": 64, "crop_size": 64})


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(),
        Preprocessing(shortest_edge=None, resize_to=(MAX_PIXELS, 2)),
        Preprocessing(do_resize=False, crop_size=(MAX_PIXELS, 2)),
    ],
    ids=["sliver", "resize_to", "crop"],
)
def test_a_result_of_too_many_pixels_is_refused(preprocessing: Preprocessing) -> None:
    with pytest.raises(InputError, match="too many pixels"):
        to_pixels(Image.new("RGB", (1, 2000)), preprocessing)


@pytest.mark.parametrize(("shape", "valid"), [((224, 192, 3), True), ((5, 224, 192, 3), True), ((192, 224, 3), False)])
def test_check_size(shape: tuple[int, ...], valid: bool) -> None:
    pixels: npt.NDArray[np.uint8] = np.zeros(shape, dtype=np.uint8)
    if valid:
        check_size(pixels, (224, 192))
    else:
        with pytest.raises(InputError, match=r"a\.png is 192x224 .* takes 224x192"):
            check_size(pixels, (224, 192), "a.png")
