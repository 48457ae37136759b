"""Which images of a build everybody is compared on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration import ImageSet, open_dataset
from levit_edge.families.levit.image_processor import default_preprocessing
from levit_edge.pipeline.images import EvaluationPass, Selection
from levit_edge.progress import QUIET
from tests.levit_edge.pipeline.conftest import CLASSES, PER_CLASS, draw

ALL_IMAGES = len(CLASSES) * PER_CLASS


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("images") / "drawn")


def _selection(folder: Path, images: ImageSet, *, skip_bad: bool = False) -> Selection:
    return Selection(folder.name, images, images.items, default_preprocessing(64, 3), skip_bad)


def test_a_few_images_lie_at_equal_distances(drawn: Path) -> None:
    with open_dataset(drawn, CLASSES) as images:
        selection = _selection(drawn, images)
        assert selection.compared(3) == {"cat/0.png", "dog/0.png", "owl/0.png"}
        names = [item.name for item in images.items]
        positions = sorted(names.index(name) for name in selection.compared(7))
    assert set(np.diff(positions)) <= {2, 3} and len(positions) == 7


def test_fewer_images_than_asked_for_are_all_taken(drawn: Path) -> None:
    with open_dataset(drawn, CLASSES) as images:
        selection = _selection(drawn, images)
        assert len(selection.compared(200)) == ALL_IMAGES
        assert selection.first(200).inputs.shape == (ALL_IMAGES, 3, 64, 64)


def test_the_first_images_are_those_that_can_be_read(tmp_path: Path) -> None:
    folder = draw(tmp_path / "drawn")
    (folder / "cat" / "0.png").write_bytes(b"no image")
    with open_dataset(folder, CLASSES) as images:
        assert _selection(folder, images, skip_bad=True).first(2).names == ("cat/1.png", "cat/2.png")


def test_batches_come_in_order_and_name_what_they_leave_out(tmp_path: Path) -> None:
    folder = draw(tmp_path / "drawn")
    (folder / "dog" / "0.png").write_bytes(b"no image")
    with open_dataset(folder, CLASSES) as images:
        batches = list(_selection(folder, images, skip_bad=True).batches(QUIET, "evaluate"))
        names = [name for batch in batches for name in batch.names]
        left_out = [name for batch in batches for name, _ in batch.skipped]
        assert left_out == ["dog/0.png"]
        assert names == [item.name for item in images.items if item.name not in left_out]


def test_a_pass_says_which_images_were_answered(tmp_path: Path) -> None:
    folder = draw(tmp_path / "drawn")
    (folder / "dog" / "0.png").write_bytes(b"no image")
    with open_dataset(folder, CLASSES) as images:
        found = []
        for size in (4, 5):
            images_pass = EvaluationPass(_selection(folder, images, skip_bad=True))
            assert sum(len(batch.names) for batch in images_pass.batches(QUIET, "evaluate", size)) == ALL_IMAGES - 1
            found.append(images_pass.result())
    assert found[0] == found[1]
    assert (found[0].source, found[0].n, found[0].skipped_images) == ("drawn", ALL_IMAGES - 1, ("dog/0.png",))
