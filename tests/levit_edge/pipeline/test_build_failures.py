"""A build that cannot be done says why in one line and leaves everything as it was."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from torch.export import ExportedProgram

from levit_edge.bundle.files import sha256_tree, size_bytes
from levit_edge.bundle.manifest import open_bundle
from levit_edge.bundle.publish import lock_directory
from levit_edge.errors import InputError, LevitEdgeError
from levit_edge.pipeline.build import build
from levit_edge.report.schema import load_report
from targets.registry import TARGETS
from targets.runner import Runner
from tests.levit_edge.families.levit.levits import hf_model
from tests.levit_edge.pipeline.conftest import Built, change_backend
from tests.programs import micro_config


def test_a_model_without_a_head_is_refused(built: Built, tmp_path: Path) -> None:
    backbone = hf_model(micro_config(), heads=0)
    with pytest.raises(InputError, match="backbone without a classification head; there is nothing to verify"):
        build(built.options(tmp_path / "dist", model=backbone))
    assert not (tmp_path / "dist").exists()


def test_int8_without_images_is_refused(built: Built, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="recipe int8 calibrates on images; name some with --calibration DATA"):
        build(built.options(tmp_path / "dist", recipe="int8"))
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"recipe": "w8a16"}, "recipe w8a16 is not for onnx; it is for: coreml"),
        ({"recipe": "int4"}, "unknown recipe 'int4'"),
        ({"model": "levit-128S"}, "random"),
        ({"model": "/nowhere/model"}, "/nowhere/model"),
        ({"calibration": Path("/nowhere/images")}, "/nowhere/images"),
        ({"gates": Path("/nowhere/limits.toml")}, "/nowhere/limits.toml"),
        ({"labels": Path("/nowhere/labels.txt")}, "/nowhere/labels.txt"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_and_creates_nothing(
    changes: dict[str, object], line: str, built: Built, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        build(built.options(tmp_path / "dist", **changes))
    assert line in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize("field", ["samples", "runs", "threads", "limit"])
def test_numbers_below_one_are_refused(field: str, built: Built, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{field} is 0; it must be at least 1"):
        built.options(tmp_path, **{field: 0})


@pytest.fixture
def previous(built: Built, tmp_path: Path) -> Path:
    """A folder with an earlier build; the test's own build must leave it as it is."""
    return Path(shutil.copytree(built.out, tmp_path / "dist"))


def lowering(monkeypatch: pytest.MonkeyPatch, failure: BaseException) -> None:
    """Let ONNX write half of a file and then fail."""

    def lower(program: ExportedProgram, path: Path, half: bool) -> None:
        path.write_bytes(b"half")
        raise failure

    change_backend(monkeypatch, "onnx", lower=lower)


@pytest.mark.parametrize(
    ("failure", "kind", "line"),
    [
        (RuntimeError("the exporter broke"), RuntimeError, "the exporter broke"),
        (KeyboardInterrupt(), KeyboardInterrupt, ""),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), InputError, "dist: no space left on the disk"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS)), InputError, "dist: the file system is read-only"),
    ],
    ids=["an exception", "an interrupt", "a full disk", "a read-only disk"],
)
def test_a_failure_while_lowering_leaves_the_previous_build(
    failure: BaseException,
    kind: type[BaseException],
    line: str,
    built: Built,
    previous: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = sha256_tree(previous)
    lowering(monkeypatch, failure)
    with pytest.raises(kind) as caught:
        build(built.options(previous))
    assert line in str(caught.value)
    assert sha256_tree(previous) == before
    assert not [path for path in previous.iterdir() if path.name.startswith(".")]


def test_a_damaged_image_stops_the_build_with_its_name(built: Built, previous: Path, tmp_path: Path) -> None:
    images = Path(shutil.copytree(built.images, tmp_path / "images"))
    whole = (images / "dog" / "3.png").read_bytes()
    (images / "dog" / "3.png").write_bytes(whole[: len(whole) // 2])
    before = sha256_tree(previous)
    with pytest.raises(InputError, match=r"dog/3\.png") as caught:
        build(built.options(previous, recipe="int8", calibration=images, samples=18))
    assert "\n" not in str(caught.value)
    assert sha256_tree(previous) == before


def test_a_model_file_that_computes_something_else_is_not_published(
    built: Built, previous: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, load = sha256_tree(previous), TARGETS["onnx"].backend.load

    class Wrong:
        runtime, executed = "wrong", True

        def __init__(self, right: Runner) -> None:
            self._right = right

        def __call__(
            self, image: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
        ) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
            return self._right(image) + np.float32(0.5)

    change_backend(monkeypatch, "onnx", load=lambda path, threads: Wrong(load(path, threads)))
    with pytest.raises(
        LevitEdgeError, match=r"onnx float reference: .* differs from the program it was made from \(SQNR"
    ):
        build(built.options(previous))
    assert sha256_tree(previous) == before


def test_a_folder_that_another_build_holds_is_refused(built: Built, previous: Path) -> None:
    with lock_directory(previous), pytest.raises(InputError, match=r"another build .* is writing here; wait for it"):
        build(built.options(previous))
    build(built.options(previous))
    assert load_report(previous / "report.json").targets.keys() == {"onnx"}


def test_a_folder_of_the_user_is_never_replaced(built: Built, tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"onnx is a folder without manifest\.json, so not a bundle"):
        build(built.options(tmp_path))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["thesis.txt"]


def test_a_new_build_replaces_only_its_own_targets(built: Built, previous: Path) -> None:
    kept = sha256_tree(previous / "coreml")
    build(built.options(previous))
    assert sha256_tree(previous / "coreml") == kept
    assert open_bundle(previous / "onnx").manifest.recipe.name == "fp32"
    assert size_bytes(previous / "onnx" / "model.onnx") == size_bytes(previous / "onnx" / "model.fp32.onnx")
