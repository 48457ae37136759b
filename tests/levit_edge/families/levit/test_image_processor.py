"""Reading preprocessor_config.json: what the hub holds is understood, what cannot be honoured is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from transformers.models.levit.image_processing_pil_levit import LevitImageProcessorPil

from levit_edge.errors import InputError
from levit_edge.families.levit.image_processor import default_preprocessing, preprocessing_from_hf
from levit_edge.families.preprocessing import IMAGENET_MEAN, Preprocessing


def test_an_empty_config_gives_the_defaults() -> None:
    assert preprocessing_from_hf({}) == Preprocessing() == default_preprocessing(224)


def test_null_means_default() -> None:
    fields = ("size", "crop_size", "resample", "do_resize", "image_mean", "do_pad", "anything")
    assert preprocessing_from_hf(dict.fromkeys(fields)) == Preprocessing()


def test_what_transformers_saves_is_read() -> None:
    saved = LevitImageProcessorPil(size=160, crop_size=192, resample=2, do_rescale=False).to_json_string()
    expected = Preprocessing(shortest_edge=160, crop_size=(192, 192), resample="bilinear", do_rescale=False)
    assert preprocessing_from_hf(json.loads(saved)) == expected


@pytest.mark.parametrize("value", [1, "LANCZOS", "lanczos", "PILImageResampling.LANCZOS", "Resampling.LANCZOS"])
def test_resample_by_number_or_name(value: int | str) -> None:
    assert preprocessing_from_hf({"resample": value}).resample == "lanczos"


@pytest.mark.parametrize(
    ("given", "shortest_edge", "resize_to"),
    [
        (192, 192, None),
        ({"shortest_edge": 192}, 192, None),
        ({"height": 192, "width": 200}, None, (192, 200)),
        ([192, 200], None, (192, 200)),
    ],
)
def test_size(given: object, shortest_edge: int | None, resize_to: tuple[int, int] | None) -> None:
    found = preprocessing_from_hf({"size": given})
    assert (found.shortest_edge, found.resize_to) == (shortest_edge, resize_to)


def test_one_channel_takes_the_mean_of_the_three() -> None:
    found = default_preprocessing(192, num_channels=1)
    assert found.image_mean == pytest.approx((sum(IMAGENET_MEAN) / 3,))
    assert found.image_std == pytest.approx((0.226,))
    assert (found.shortest_edge, found.crop_size) == (192, (192, 192))
    assert preprocessing_from_hf({}, num_channels=1).num_channels == 1


INVALID: list[tuple[dict[str, Any], str]] = [
    ({"size": 0}, "size is 0; valid: whole numbers of at least 1"),
    ({"size": True}, "size is True"),
    ({"size": 224.0}, "size is 224.0; valid: a whole number"),
    ({"size": {"longest_edge": 224}}, "shortest_edge"),
    ({"size": {"shortest_edge": 224, "longest_edge": 300}}, "shortest_edge"),
    ({"size": {"height": 224, "width": "224"}}, "size is '224'"),
    ({"crop_size": {"shortest_edge": 224}}, "crop_size is"),
    ({"crop_size": [224]}, "crop_size is"),
    ({"resample": 6}, "resample is 6; valid: 0 .nearest., 1 .lanczos., 2 .bilinear., 3 .bicubic."),
    ({"resample": "cubic"}, "resample is 'cubic'"),
    ({"resample": True}, "resample is True"),
    ({"do_resize": 1}, "do_resize is 1; valid: true, false"),
    ({"do_pad": True}, "do_pad is True; valid: false"),
    ({"rescale_factor": "1/255"}, "rescale_factor is '1/255'; valid: a finite number"),
    ({"rescale_factor": float("nan")}, "rescale_factor is nan"),
    ({"image_mean": [0.5, 0.5]}, "image_mean is .* list of 3"),
    ({"image_mean": [0.5, 0.5, "x"]}, "image_mean is 'x'"),
    ({"image_std": [0.5, 0.5, 0.0]}, "image_std"),
    ({"image_processor_type": "ViTImageProcessor"}, "ViTImageProcessor.*LevitImageProcessor"),
    ({"crop_pct": 0.9}, "unknown field 'crop_pct'; valid: do_resize"),
]


@pytest.mark.parametrize(("config", "message"), INVALID, ids=[message for _, message in INVALID])
def test_invalid_fields_name_the_field_and_what_is_valid(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        preprocessing_from_hf(config)
    assert "\n" not in str(caught.value)


def test_two_channels_are_refused() -> None:
    with pytest.raises(InputError, match="num_channels is 2"):
        default_preprocessing(224, num_channels=2)


def test_a_zero_size_is_refused() -> None:
    with pytest.raises(InputError, match="shortest_edge"):
        default_preprocessing(0)
