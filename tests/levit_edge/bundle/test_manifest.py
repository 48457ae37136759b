"""Bundles: what the manifest promises, and how each kind of damage reads."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from levit_edge.bundle.golden import read_golden, write_golden
from levit_edge.bundle.manifest import (
    Manifest,
    ModelInfo,
    RecipeInfo,
    TensorSpec,
    open_bundle,
    write_manifest,
)
from levit_edge.errors import InputError
from levit_edge.families.preprocessing import Preprocessing


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "target": "coreml",
        "model": ModelInfo(variant="levit-128S", source="demo", sha256="ab" * 32, parameters=7),
        "labels": ("cat", "chien — größer"),
        "preprocessing": Preprocessing(),
        "inputs": (TensorSpec(name="image", dtype="float32", shape=(1, 3, 8, 8), layout="NCHW", range=(-2.2, 2.7)),),
        "outputs": (TensorSpec(name="logits", dtype="float32", shape=(1, 2), layout="NC"),),
        "recipe": RecipeInfo(name="int8", settings={"weights": "int8", "keep_float": []}),
        "calibration": None,
        "tool_versions": {"torch": "2.13.0"},
        "model_file": "model.mlpackage",
        "reference_file": "model.fp32.mlpackage",
        "options": {"minimum_deployment_target": "iOS17"},
    }
    return Manifest(**(values | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("model.mlpackage/Data/weights.bin", "model.mlpackage/Manifest.json", "model.fp32.mlpackage/w.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    write_manifest(tmp_path, manifest())
    return tmp_path


def test_a_manifest_of_an_earlier_version_does_not_speak_of_random_weights(folder: Path) -> None:
    path = folder / "manifest.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["model"].pop("random_weights") is False
    path.write_text(json.dumps(data), encoding="utf-8")
    assert open_bundle(folder).manifest.model == manifest().model


def golden(**changes: Any) -> dict[str, Any]:
    pixels = np.arange(4 * 8 * 8 * 3, dtype=np.uint8).reshape(4, 8, 8, 3)  # [N, H, W, C]
    values = {
        "pixels": pixels,
        "inputs": pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255,  # [N, C, H, W]
        "logits": np.eye(4, 2, dtype=np.float32),
        "names": ["a.png", "b.png", "ç.png", "d.png"],
        "runtime": "onnxruntime 1.31.1",
    }
    return values | changes


def test_a_bundle_comes_back_as_it_was_written(folder: Path) -> None:
    bundle = open_bundle(folder)
    bundle.verify()
    assert bundle.manifest.model_copy(update={"files": {}}) == manifest()
    assert bundle.model_path == folder / "model.mlpackage"
    assert bundle.reference_path == folder / "model.fp32.mlpackage"


def test_the_manifest_hashes_every_file_but_itself(folder: Path) -> None:
    assert sorted(open_bundle(folder).manifest.files) == [
        "model.fp32.mlpackage/w.bin",
        "model.mlpackage/Data/weights.bin",
        "model.mlpackage/Manifest.json",
    ]


def test_the_same_bundle_gives_the_same_manifest(folder: Path) -> None:
    first = (folder / "manifest.json").read_bytes()
    write_manifest(folder, manifest())
    assert (folder / "manifest.json").read_bytes() == first


def test_a_manifest_cannot_name_a_model_that_is_not_there(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"no model\.pte"):
        write_manifest(folder, manifest(model_file="model.pte"))


def test_verify_names_what_is_missing_changed_and_extra(folder: Path) -> None:
    (folder / "model.mlpackage/Manifest.json").unlink()
    (folder / "model.mlpackage/Data/weights.bin").write_text("other")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError) as failure:
        open_bundle(folder).verify()
    assert str(failure.value).endswith(
        "missing: model.mlpackage/Manifest.json; changed: model.mlpackage/Data/weights.bin; "
        "not in the manifest: notes.txt"
    )


@pytest.mark.parametrize("name", ["/etc/passwd", "../model.pte", "a/../../b", "C:/x", "a\\b", ""])
def test_file_names_stay_inside_the_bundle(name: str) -> None:
    with pytest.raises(ValueError, match="not a relative path inside the bundle"):
        manifest(model_file=name)


def _without(text: str, key: str) -> str:
    return json.dumps({name: value for name, value in json.loads(text).items() if name != key})


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda text: text[:40], "is not JSON"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 9'), "has schema_version 9"),
        (lambda text: _without(text, "target"), "is not the manifest of a bundle: target: Field required"),
        (lambda text: text.replace('"target"', '"goal"'), "is not the manifest of a bundle"),
        (lambda text: "[]", "is not the manifest of a bundle"),
    ],
    ids=["cut short", "another schema", "a key is missing", "a key is unknown", "no object"],
)
def test_a_damaged_manifest_reads_as_one_line(folder: Path, damage: Any, line: str) -> None:
    path = folder / "manifest.json"
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(InputError) as failure:
        open_bundle(folder)
    assert line in str(failure.value) and "\n" not in str(failure.value)


def test_a_manifest_that_is_not_text_reads_as_one_line(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(InputError, match="not UTF-8"):
        open_bundle(folder)


def test_missing_folders_and_other_folders_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_bundle(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is not a bundle"):
        open_bundle(tmp_path)


def test_golden_values_come_back(tmp_path: Path) -> None:
    values = golden()
    write_golden(tmp_path, **values)
    read = read_golden(tmp_path)
    for field in ("pixels", "inputs", "logits"):
        np.testing.assert_array_equal(getattr(read, field), values[field])
    assert read.names == tuple(values["names"]) and read.runtime == values["runtime"]


def test_golden_bytes_do_not_depend_on_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_golden(tmp_path, **golden()).read_bytes()
    later = time.time() + 1e7
    monkeypatch.setattr(time, "time", lambda: later)
    fortran = golden(inputs=np.asfortranarray(golden()["inputs"]))
    assert write_golden(tmp_path, **fortran).read_bytes() == first


@pytest.mark.parametrize(
    "changes",
    [
        {"pixels": np.zeros((4, 8, 8, 3), np.float32)},
        {"names": ["only one"]},
        {"inputs": np.zeros((4, 3, 8, 9), np.float32)},
        {"logits": np.zeros(4, np.float32)},
    ],
    ids=["dtype", "count", "shape", "dimensions"],
)
def test_golden_values_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|entries|are not pixels"):
        write_golden(tmp_path, **golden(**changes))
    assert not (tmp_path / "golden.npz").exists()


def test_golden_values_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "golden.npz", **golden(logits=np.array([{}] * 4, dtype=object)))
    with pytest.raises(InputError, match="cannot be read as golden values"):
        read_golden(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"text"])
def test_damaged_golden_values_read_as_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "golden.npz").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as golden values"):
        read_golden(tmp_path)
