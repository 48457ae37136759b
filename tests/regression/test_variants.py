"""The five published variants, as transformers writes them with 1,000 classes, on real photographs."""

from __future__ import annotations

from pathlib import Path

import pytest

from levit_edge.families.labels import numbered_labels
from levit_edge.families.levit.config import VARIANTS, variant_config
from levit_edge.pipeline.build import build
from levit_edge.pipeline.options import BuildOptions
from targets.registry import TARGETS
from tests.levit_edge.families.levit.levits import hf_model
from tests.places import SHARED

PHOTOGRAPHS = SHARED / "data" / "imagenet-samples"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="needs the photographs in shared/data beside the clone"),
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_builds_for_every_target(variant: str, tmp_path: Path) -> None:
    model = tmp_path / variant
    hf_model(variant_config(variant, numbered_labels(1000)), heads=2).save_pretrained(model)
    report = build(
        BuildOptions(model=str(model), calibration=PHOTOGRAPHS, samples=16, limit=16, runs=3, out=tmp_path / "dist")
    )
    assert (report.model.variant, report.model.num_labels) == (variant, 1000)
    assert set(report.targets) == set(TARGETS)
    for entry in report.targets.values():
        assert entry.accuracy is not None and entry.accuracy.n == 16
        assert entry.delegation is not None
        assert entry.delegation.fallback_ops == (None if entry.delegation.delegates is None else 0)
        assert entry.size_ratio < 0.4
    delegation = report.targets["executorch"].delegation
    assert delegation is not None and delegation.delegates == 1
