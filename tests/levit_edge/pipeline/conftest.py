"""One real build of the smallest LeViT for all targets, and the images it was built from."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from levit_edge.pipeline.build import build
from levit_edge.pipeline.options import BuildOptions
from levit_edge.report.schema import Report
from targets.registry import TARGETS
from tests.levit_edge.families.levit.levits import hf_model
from tests.programs import micro_config
from tests.shared_results import shared_folder

CLASSES = ("cat", "dog", "owl")
PER_CLASS = 6
SAMPLES = 9
REPORT = "report.pickle"


@dataclass(frozen=True)
class Built:
    """``out`` is what the build wrote; a test that changes it works on a copy."""

    out: Path
    model: Path
    images: Path
    report: Report

    def options(self, out: Path, **changes: object) -> BuildOptions:
        """The quickest build of the same model: float ONNX only, few runs."""
        settings: dict[str, object] = {
            "model": str(self.model),
            "targets": ("onnx",),
            "recipe": "fp32",
            "samples": SAMPLES,
            "runs": 3,
            "out": out,
        }
        return BuildOptions(**(settings | changes))  # type: ignore[arg-type]


def change_backend(monkeypatch: pytest.MonkeyPatch, name: str, **functions: object) -> None:
    """Replace functions of a target, for the rest of the test."""
    changed = replace(TARGETS[name].backend, **functions)  # type: ignore[arg-type]
    monkeypatch.setitem(TARGETS, name, replace(TARGETS[name], load_backend=lambda: changed))


def draw(folder: Path, classes: tuple[str, ...] = CLASSES, seed: int = 0) -> Path:
    """Coarse coloured noise, PER_CLASS images in a folder for each class."""
    random = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for index in range(PER_CLASS):
            coarse = Image.fromarray(random.integers(0, 256, (7, 9, 3), dtype=np.uint8))
            coarse.resize((90, 70), Image.Resampling.BICUBIC).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    root = shared_folder(tmp_path_factory, "build", _build)
    # Pickled, not read from report.json: a test compares what the build returned with that file.
    report: Report = pickle.loads((root / REPORT).read_bytes())
    return Built(root / "dist", root / "micro", root / "photographs", report)


def _build(root: Path) -> None:
    model, images = root / "micro", draw(root / "photographs")
    hf_model(micro_config(), heads=2).save_pretrained(model)
    options = BuildOptions(
        model=str(model), calibration=images, samples=SAMPLES, seed=5, out=root / "dist", runs=3, threads=1
    )
    (root / REPORT).write_bytes(pickle.dumps(build(options)))
