"""The script behind the demo's assets: rounding is safe, the archive depends on its content alone."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from levit_edge.demo import CALIBRATION_FOLDER, DEMO_ARCHIVE, DEMO_CHECKPOINT, DEMO_LABELS, EVALUATION_FOLDER
from tools import make_demo_assets
from tools.make_demo_assets import as_float16, main, write_archive


def _images(path: Path, per_class: int, seed: int) -> Path:
    """A zip of ``per_class`` one-colour PNGs of each class, no two alike, in a folder called ``all``."""
    with zipfile.ZipFile(path, "w") as archive:
        for kind, name in enumerate(DEMO_LABELS):
            for number in range(per_class):
                buffer = io.BytesIO()
                Image.new("RGB", (4, 4), (seed, kind, number)).save(buffer, format="PNG")
                archive.writestr(f"all/{name}/{number:04}.png", buffer.getvalue())
    return path


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    weights = {"a.weight": torch.rand(3, 2), "a.bn.running_var": torch.ones(3), "a.steps": torch.tensor(7)}
    save_file(weights, tmp_path / "weights.safetensors")
    train, test = _images(tmp_path / "train.zip", 30, 1), _images(tmp_path / "test.zip", 101, 2)
    return ["--checkpoint", str(tmp_path / "weights.safetensors"), "--train", str(train), "--test", str(test)]


def test_integers_stay_and_floats_become_float16() -> None:
    rounded = as_float16({"weight": torch.tensor([0.1, 1e-9]), "steps": torch.tensor(70_000)})
    assert torch.equal(rounded["weight"], torch.tensor([0.1, 0.0], dtype=torch.float16))
    assert rounded["steps"].item() == 70_000
    assert rounded["steps"].dtype == torch.int64


def test_values_that_float16_cannot_hold_are_refused() -> None:
    with pytest.raises(ValueError, match=r"head\.weight has values that float16 cannot hold"):
        as_float16({"head.weight": torch.tensor([1e5])})
    with pytest.raises(ValueError, match=r"bn\.running_var has variances below 6\.1"):
        as_float16({"bn.running_var": torch.tensor([1.0, 1e-6])})


def test_an_archive_depends_on_its_content_alone(tmp_path: Path) -> None:
    content = {"b/1.png": b"one", "a/2.png": b"two"}
    write_archive(tmp_path / "x.zip", content)
    write_archive(tmp_path / "y.zip", dict(reversed(content.items())))
    assert (tmp_path / "x.zip").read_bytes() == (tmp_path / "y.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.namelist() == sorted(content)
        assert {name: archive.read(name) for name in content} == content


def test_running_it_twice_gives_the_same_bytes(tmp_path: Path, arguments: list[str]) -> None:
    for out in ("first", "second"):
        main([*arguments, "--out", str(tmp_path / out)])
    for name in (DEMO_CHECKPOINT, DEMO_ARCHIVE):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    with zipfile.ZipFile(tmp_path / "first" / DEMO_ARCHIVE) as archive:
        names = archive.namelist()
    assert sum(name.startswith(CALIBRATION_FOLDER + "/") for name in names) == 256
    assert sum(name.startswith(EVALUATION_FOLDER + "/") for name in names) == 1000
    assert set(load_file(tmp_path / "first" / DEMO_CHECKPOINT)) == {"a.weight", "a.bn.running_var", "a.steps"}


def test_images_in_both_folders_are_refused(tmp_path: Path, arguments: list[str]) -> None:
    arguments[arguments.index("--train") + 1] = arguments[arguments.index("--test") + 1]
    with pytest.raises(ValueError, match="images are in both"):
        main([*arguments, "--out", str(tmp_path)])


def test_an_archive_that_is_too_large_is_refused(
    tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make_demo_assets, "MAX_ARCHIVE_BYTES", 1000)
    with pytest.raises(ValueError, match=r"bytes too large; the limit is 1000"):
        main([*arguments, "--out", str(tmp_path)])
