"""Which images of a build everybody is compared on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration import open_dataset
from levit_edge.families.levit.image_processor import default_preprocessing
from levit_edge.pipeline.images import Selection
from levit_edge.progress import QUIET
from tests.levit_edge.pipeline.conftest import CLASSES, PER_CLASS, draw

ALL_IMAGES = len(CLASSES) * PER_CLASS


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("images") / "drawn")


def _spread(folder: Path, count: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The names, and the shape of the inputs."""
    with open_dataset(folder, CLASSES) as images:
        selection = Selection("drawn", images, images.items, default_preprocessing(64, 3), True)
        list(selection.batches(QUIET, "evaluate"))
        batch = selection.spread(count)
    assert len(batch.names) == len(batch.class_index) == len(batch.pixels)
    return batch.names, batch.inputs.shape


def test_a_few_images_lie_at_equal_distances(drawn: Path) -> None:
    names, shape = _spread(drawn, 3)
    assert names == ("cat/0.png", "dog/0.png", "owl/0.png") and shape == (3, 3, 64, 64)
    everything, _ = _spread(drawn, ALL_IMAGES)
    positions = [everything.index(name) for name in _spread(drawn, 7)[0]]
    assert set(np.diff(positions)) <= {2, 3} and len(positions) == 7


def test_fewer_images_than_asked_for_are_all_taken(drawn: Path) -> None:
    names, shape = _spread(drawn, 200)
    assert len(set(names)) == ALL_IMAGES and shape[0] == ALL_IMAGES


def test_images_that_could_not_be_read_are_passed_over(tmp_path: Path) -> None:
    folder = draw(tmp_path / "drawn")
    (folder / "dog" / "0.png").write_bytes(b"no image")
    names, _ = _spread(folder, 3)
    assert len(names) == 3 and "dog/0.png" not in names
