"""The embedded demo is what its provenance file says, and loads through the same doors as a user's own data."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from calibration import image_pixels, load, normalize, open_dataset
from levit_edge import demo
from levit_edge.demo import CALIBRATION_FOLDER, DEMO_ARCHIVE, DEMO_CHECKPOINT, DEMO_LABELS, EVALUATION_FOLDER
from levit_edge.errors import MissingComponentError
from levit_edge.families.levit.image_processor import default_preprocessing
from levit_edge.families.levit.model import random_model
from levit_edge.families.load import from_module
from tests.levit_edge.families.levit.levits import DATA

ASSETS = Path(demo.__file__).parent / "assets"
CALIBRATION_COUNTS = {25, 26}
ROW = re.compile(r"^\| `(?P<name>[^`]+)` \| (?P<size>\d+) \| `(?P<sha256>[0-9a-f]{64})` \|$", re.MULTILINE)


def _contents(folder: str) -> dict[str, bytes]:
    with zipfile.ZipFile(demo.demo_archive()) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name.startswith(folder + "/")}


def test_the_provenance_file_lists_every_asset_with_its_sum() -> None:
    rows = list(ROW.finditer((ASSETS / "PROVENANCE.md").read_text(encoding="utf-8")))
    assert {row["name"] for row in rows} == {path.name for path in ASSETS.iterdir()} - {"PROVENANCE.md"}
    for row in rows:
        data = (ASSETS / row["name"]).read_bytes()
        assert len(data) == int(row["size"])
        assert hashlib.sha256(data).hexdigest() == row["sha256"]


def test_the_assets_are_small() -> None:
    assert (ASSETS / DEMO_ARCHIVE).stat().st_size <= 4_000_000
    assert (ASSETS / DEMO_CHECKPOINT).stat().st_size <= 14_500_000


def test_the_checkpoint_is_a_small_levit_with_two_heads() -> None:
    checkpoint = demo.demo_checkpoint()
    assert (checkpoint.variant, checkpoint.layout, len(checkpoint.model.heads)) == ("levit-128S", "timm", 2)
    assert (checkpoint.labels, checkpoint.image_size) == (DEMO_LABELS, 224)
    assert checkpoint.source == f"levit_edge/assets/{DEMO_CHECKPOINT}"


def test_the_demo_is_known_by_its_weights() -> None:
    """Whatever they are called, and also when they are stored as float32."""
    checkpoint = demo.demo_checkpoint()
    assert checkpoint.sha256 == demo.DEMO_SHA256
    assert demo.is_demo(from_module(checkpoint.model).sha256, demo.DEMO_LABELS)
    assert not demo.is_demo(demo.DEMO_SHA256, ("LABEL_0", "LABEL_1"))  # its images have no class of such a model
    assert not demo.is_demo(from_module(random_model(checkpoint.model.config)).sha256, demo.DEMO_LABELS)


def test_weights_are_float16_and_no_variance_is_lost() -> None:
    state = load_file(ASSETS / DEMO_CHECKPOINT)
    kinds = {tensor.dtype for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
    assert kinds == {torch.float16}
    assert {t.dtype for key, t in state.items() if key.endswith("num_batches_tracked")} == {torch.int64}
    variances = torch.cat([tensor for key, tensor in state.items() if key.endswith("running_var")])
    assert float(variances.min()) > 0.01
    assert float(variances.max()) < 1000


@pytest.mark.parametrize(("folder", "total"), [(CALIBRATION_FOLDER, 256), (EVALUATION_FOLDER, 1000)])
def test_both_folders_open_as_labelled_balanced_data(folder: str, total: int) -> None:
    with open_dataset(demo.demo_archive(), DEMO_LABELS, require_labels=True, subfolder=folder) as images:
        assert len(images.items) == total
        assert images.labelled
        assert all(DEMO_LABELS[item.class_index or 0] == item.class_name for item in images.items)
        counts = Counter(item.class_name for item in images.items)
    assert set(counts) == set(DEMO_LABELS)
    assert set(counts.values()) == ({100} if folder == EVALUATION_FOLDER else CALIBRATION_COUNTS)


def test_no_image_is_in_both_folders() -> None:
    calibration, evaluation = _contents(CALIBRATION_FOLDER), _contents(EVALUATION_FOLDER)
    assert not set(calibration.values()) & set(evaluation.values())
    assert len(set(calibration.values())) == len(calibration)
    with zipfile.ZipFile(demo.demo_archive()) as archive:
        assert len(archive.namelist()) == len(calibration) + len(evaluation)


def test_the_images_are_32_pixels_wide_and_decode() -> None:
    preprocessing = default_preprocessing(32).model_copy(update={"do_resize": False, "do_center_crop": False})
    with open_dataset(demo.demo_archive(), DEMO_LABELS) as images:
        shapes = {batch.pixels.shape[1:] for batch in load(images, images.items[::10], preprocessing)}
    assert shapes == {(32, 32, 3)}


@torch.inference_mode()
def test_float16_storage_keeps_the_logits_that_timm_computed() -> None:
    """Against float32 weights in timm, for the images of the saved file that the archive holds."""
    saved = np.load(DATA / "levit_128s_cifar10.expected.npz")
    images = _contents(EVALUATION_FOLDER)
    names = [name.replace("test/", EVALUATION_FOLDER + "/") for name in saved["names"].tolist()]
    rows = [row for row, name in enumerate(names) if name in images]
    assert len(rows) >= 20
    preprocessing = default_preprocessing(224)
    pixels = np.stack([image_pixels(images[names[row]], names[row], preprocessing) for row in rows])
    logits = demo.demo_checkpoint().model(torch.from_numpy(normalize(pixels, preprocessing))).logits.numpy()
    expected = saved["logits"][rows]
    assert float(np.abs(logits - expected).max()) < 1e-2
    assert np.array_equal(logits.argmax(axis=1), expected.argmax(axis=1))


def test_an_absent_asset_is_named_with_the_command_that_restores_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "files", lambda package: tmp_path)
    for locate, name in ((demo.demo_archive, DEMO_ARCHIVE), (demo.demo_checkpoint, DEMO_CHECKPOINT)):
        with pytest.raises(MissingComponentError, match=f"the demo's file {name} is not available here") as caught:
            locate()
        assert caught.value.exit_code == 3
        assert "git restore levit_edge/assets" in str(caught.value)
