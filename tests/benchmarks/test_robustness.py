"""What the robustness benchmark makes of its builds, and the models that it makes."""

from __future__ import annotations

import pytest
import torch

from benchmarks.host import Host
from benchmarks.outlier_channels import with_outliers
from benchmarks.probed_variants import _ridge, _set_statistics
from benchmarks.robustness_page import Row, page
from levit_edge.families.levit.model import random_model
from tests.levit_edge.families.levit.levits import image
from tests.programs import micro_config

WHERE = Host("python -m benchmarks.robustness", "a core", (), 2, "Linux x86_64", "3.11", {"torch": "2.13"})


def row(seed: int, sqnr_db: float, agreement_pct: float) -> Row:
    return Row("seeds", "256 images", "onnx", seed, 256, 512, sqnr_db, agreement_pct, False, 80.0)


def test_the_page_summarises_the_builds_of_a_row_and_leaves_out_what_was_not_measured() -> None:
    text = page(WHERE, [row(0, 30.0, 99.0), row(1, 32.0, 98.0)])
    assert "| 256 images | onnx | 2 | 31.00 | 1.41 | 30.00 | 32.00 | 98.50 | 98.00 | 0 | 512 | 80.0 |" in text
    assert "## Calibration images drawn by seed" in text and "## Wide channels" not in text


def test_statistics_are_those_of_the_images_layer_by_layer() -> None:
    model, images = random_model(micro_config()), image(micro_config(), batch=6)
    _set_statistics(model, images)
    with torch.no_grad():
        x = model.stem[0].conv(images)  # type: ignore[operator,union-attr]  # a ConvNorm
        normed = model.stem[0](images)
    mean, norm = x.mean((0, 2, 3)), model.stem[0].norm
    assert torch.allclose(norm.running_mean, mean, atol=1e-5)  # type: ignore[arg-type,union-attr]
    assert torch.allclose(normed.mean((0, 2, 3)), norm.bias, atol=1e-4)  # type: ignore[arg-type,union-attr]
    assert not any(module.training for module in model.modules())


def test_the_head_finds_classes_that_a_line_separates() -> None:
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(60) % 3
    features = torch.randn(60, 8, generator=generator) + 4 * torch.nn.functional.one_hot(classes, 8)
    weight, bias = _ridge(features, classes, 3)
    answers = (features @ weight.T + bias).argmax(1)
    assert float((answers == classes).float().mean()) > 0.95


@pytest.mark.parametrize("factor", [30.0, 1 / 30])
def test_wide_channels_leave_the_function_as_it_is(factor: float) -> None:
    model, images = random_model(micro_config()), image(micro_config(), batch=2)
    wide = with_outliers(model, factor, 2)
    with torch.no_grad():
        plain, found = model.double()(images.double()).logits, wide.double()(images.double()).logits
        stream = [one.stem[-1].norm.weight.abs().max() for one in (model, wide)]  # type: ignore[union-attr]
    assert torch.allclose(plain, found, rtol=1e-5)
    assert (stream[1] > 10 * stream[0]) == (factor > 1)
