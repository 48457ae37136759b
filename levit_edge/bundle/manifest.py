"""A bundle: one folder with a model file, its float reference and quantized program, golden values and a manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, ValidationError

from levit_edge.bundle.files import (
    MANIFEST_NAME,
    clear_os_errors,
    files_below,
    json_text,
    schema_reason,
    sha256_file,
    write_text,
)
from levit_edge.bundle.publish import settle
from levit_edge.errors import InputError
from levit_edge.families.preprocessing import Preprocessing
from levit_edge.record import Record
from levit_edge.wording import listed

SCHEMA_VERSION: Literal[1] = 1
PROGRAM_NAME = "program.pt2"  # the quantized program in torch that the model file was lowered from
OPTIONAL = ".pt2"  # files that the device does not need, so a bundle may come without them


def _inside(name: str) -> str:
    """``name`` if it is a relative path with slashes that stays in the bundle; ValueError otherwise."""
    parts = name.split("/")
    if "\\" in name or ":" in name or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{name!r} is not a relative path inside the bundle")
    return name


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
RelativePath = Annotated[str, AfterValidator(_inside)]


class ModelInfo(Record):
    """The checkpoint that the bundle was built from; ``sha256`` covers its weights.

    ``random_weights``: there was none, and ``--random-weights`` made some up.
    """

    variant: str
    source: str
    sha256: Sha256
    parameters: int = Field(ge=0)
    random_weights: bool = False


class TensorSpec(Record):
    """One input or output. ``layout`` names the dimensions (``NCHW``, ``NC``); ``range`` is (low, high)."""

    name: str = Field(min_length=1)
    dtype: str
    shape: tuple[Annotated[int, Field(ge=1)], ...]
    layout: str
    range: tuple[float, float] | None = None


class RecipeInfo(Record):
    """The recipe by name, and all of its settings."""

    name: str
    settings: dict[str, JsonValue] = Field(default_factory=dict)


class CalibrationInfo(Record):
    """The images that chose the scales; ``sha256`` covers them and the preprocessing."""

    source: str
    sha256: Sha256
    seed: int
    samples: int = Field(ge=0)


class Manifest(Record):
    """``manifest.json``. ``files`` has the SHA-256 of every file in the bundle except the manifest itself."""

    schema_version: Literal[1] = SCHEMA_VERSION
    target: str
    model: ModelInfo
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    recipe: RecipeInfo
    calibration: CalibrationInfo | None
    tool_versions: dict[str, str]
    model_file: RelativePath
    reference_file: RelativePath
    files: dict[RelativePath, Sha256] = Field(default_factory=dict)
    options: dict[str, JsonValue] = Field(default_factory=dict)

    def to_json(self) -> str:
        """The text of ``manifest.json``: the same manifest always gives the same bytes."""
        return json_text(self.model_dump(mode="json"))


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. Opening reads the manifest only; :meth:`verify` reads the files."""

    path: Path
    manifest: Manifest

    @property
    def model_path(self) -> Path:
        """The built model: a file, or a folder for a target whose format is one."""
        return self.path / self.manifest.model_file

    @property
    def reference_path(self) -> Path:
        """The float reference for the same target."""
        return self.path / self.manifest.reference_file

    def verify(self) -> None:
        """InputError that names the files which are missing, changed or not listed in the manifest."""
        with clear_os_errors(self.path):
            # Desktops leave hidden files such as .DS_Store in every folder; they are no part of the bundle.
            found = {name: path for name, path in files_below(self.path) if not path.name.startswith(".")}
            found.pop(MANIFEST_NAME, None)
            expected = self.manifest.files
            problems = {
                "missing": sorted(name for name in expected.keys() - found.keys() if not name.endswith(OPTIONAL)),
                "changed": sorted(
                    name for name in expected.keys() & found.keys() if expected[name] != sha256_file(found[name])
                ),
                "not in the manifest": sorted(found.keys() - expected.keys()),
            }
        text = "; ".join(f"{problem}: {listed(names)}" for problem, names in problems.items() if names)
        if text:
            raise InputError(f"{self.path} is not the bundle that was built: {text}")


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write ``manifest.json`` with the hash of every other file in ``folder``; returns the manifest as written.

    Raises ValueError when the model or its reference is not in ``folder``.
    """
    with clear_os_errors(folder):
        hashes = {name: sha256_file(path) for name, path in files_below(folder) if name != MANIFEST_NAME}
    for name in (manifest.model_file, manifest.reference_file):
        if not any(file == name or file.startswith(f"{name}/") for file in hashes):
            raise ValueError(f"{folder} has no {name}, which the manifest names")
    complete = Manifest.model_validate(manifest.model_dump() | {"files": hashes})
    write_text(folder / MANIFEST_NAME, complete.to_json())
    return complete


def open_bundle(path: Path) -> Bundle:
    """Read a bundle's manifest; InputError when ``path`` is missing, no bundle, or written by another schema.

    Completes a publication that a killed build left unfinished (:func:`levit_edge.bundle.publish.settle`).
    """
    settle(path.absolute().parent)
    if not path.exists():
        raise InputError(f"{path} does not exist; name the folder of a bundle, such as dist/onnx")
    manifest = path / MANIFEST_NAME
    if not manifest.is_file():
        raise InputError(f"{path} is not a bundle: it has no {MANIFEST_NAME}; name a folder such as dist/onnx")
    try:
        with clear_os_errors(manifest):
            text = manifest.read_text(encoding="utf-8")
        return Bundle(path, Manifest.model_validate_json(text))
    except UnicodeDecodeError:
        raise InputError(f"{manifest} is not UTF-8 text") from None
    except ValidationError as error:
        raise InputError(f"{manifest} {schema_reason(error, 'the manifest of a bundle', SCHEMA_VERSION)}") from None
