"""The embedded demo: a small trained LeViT-128S and the images that calibrate and evaluate it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from levit_edge.errors import MissingComponentError
from levit_edge.families.family import Checkpoint
from levit_edge.families.load import load_checkpoint

DEMO_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DEMO_CHECKPOINT = "levit_128s_cifar10.safetensors"
DEMO_SHA256 = "40592e2ff687b844f59244c411b100f83435f7b9b768a9edb77f06e766c6ba06"  # Checkpoint.sha256 of its weights
DEMO_ARCHIVE = "cifar10_demo.zip"
CALIBRATION_FOLDER = "calibration"  # in the archive: 256 images, a folder per class
EVALUATION_FOLDER = "evaluation"  # in the archive: 1,000 others, 100 of each class


def _asset(name: str) -> Path:
    """Path of a file that the package carries; MissingComponentError when it is not installed as a file."""
    found = files("levit_edge").joinpath("assets", name)
    if not isinstance(found, Path) or not found.is_file():
        raise MissingComponentError(f"the demo's file {name}", "git restore levit_edge/assets && pip install .")
    return found


def demo_checkpoint() -> Checkpoint:
    """The demo's LeViT-128S with two heads of ten classes; its weights are stored as float16."""
    checkpoint = load_checkpoint(_asset(DEMO_CHECKPOINT), DEMO_LABELS)
    return replace(checkpoint, source=f"levit_edge/assets/{DEMO_CHECKPOINT}")  # the same on every machine


def demo_archive() -> Path:
    """The zip file with the demo's images; its two folders are CALIBRATION_FOLDER and EVALUATION_FOLDER."""
    return _asset(DEMO_ARCHIVE)


def is_demo(sha256: str, labels: Sequence[str]) -> bool:
    """True for the demo's weights (by ``Checkpoint.sha256``) and classes, whatever file or folder they came from."""
    return sha256 == DEMO_SHA256 and tuple(labels) == DEMO_LABELS
