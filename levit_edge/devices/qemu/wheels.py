"""The arm64 runtimes: wheels for aarch64 Linux, which pip fetches and verifies.

ExecuTorch's Python runtime needs a torch whose aarch64 wheel carries no CUDA. The newest of those is 2.10, and the
newest ExecuTorch whose extension module loads with it is 1.3.1: that of 1.4.1 needs symbols and tensor internals of a
later torch. The file format stays readable across 1.x, and the kernels are part of the extension module.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from levit_edge.bundle.files import sha256_file
from levit_edge.devices.qemu.folder import machine_folder
from levit_edge.errors import InputError, MissingComponentError

_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
_TAGS = [f"--platform={name}" for name in _PLATFORMS]

# Not needed for running; the headers and the compiler's tests are half of torch's files.
_UNUSED = ("torch/include", "torch/share", "torch/test", "executorch/data", "executorch/exir")


@dataclass(frozen=True)
class Wheels:
    """One folder of packages. ``hashes`` are the SHA-256 of its wheels; without them pip checks those of the index."""

    name: str
    requirements: tuple[str, ...]
    hashes: tuple[str, ...] = ()

    @property
    def wanted(self) -> tuple[str, ...]:
        return self.requirements + self.hashes


NUMPY = Wheels("numpy", ("numpy==2.3.5",), ("3095bdb8dd297e5920b010e96134ed91d852d81d490e787beca7e35ae1d89cf7",))
EXECUTORCH = Wheels(
    "executorch",
    ("executorch==1.3.1", "torch==2.10.0", "typing_extensions==4.16.0"),
    (
        "93e9acba2230c7feb48de6925db1057f1237c5ea642047c8b4dc0cd18a0d83af",
        "3282d9febd1e4e476630a099692b44fdc214ee9bf8ee5377732d9d9dfe5712e4",
        "481caa481374e813c1b176ada14e97f1f67a4539ce9cfeb3f350d78d6370c2e8",
    ),
)


def onnxruntime() -> Wheels:
    """ONNX Runtime in the version that is installed here."""
    return Wheels("onnxruntime", (f"onnxruntime=={metadata.version('onnxruntime')}",))


def all_wheels() -> tuple[Wheels, ...]:
    """Every folder of packages of the machine."""
    return NUMPY, onnxruntime(), EXECUTORCH


def check_pip() -> None:
    """MissingComponentError unless this Python has pip."""
    if util.find_spec("pip") is None:
        raise MissingComponentError("pip", f"{sys.executable} -m ensurepip")


def fetch_wheels(folder: Path, wheels: Wheels) -> dict[str, str]:
    """Fill ``folder`` with the unpacked packages; gives the SHA-256 of each wheel.

    Wheels that an interrupted run has fetched are used, after their hashes have been checked again;
    :func:`forget_wheels` deletes them.
    """
    # A folder for exactly these wheels: those of another version must not be unpacked with them.
    identity = hashlib.sha256("\n".join(wheels.wanted).encode()).hexdigest()
    kept = machine_folder() / "wheels" / f"{wheels.name}-{identity[:12]}"
    kept.mkdir(parents=True, exist_ok=True)
    _download(kept, wheels)
    files = {file.name: sha256_file(file) for file in sorted(kept.glob("*.whl"))}
    if wheels.hashes and set(files.values()) != set(wheels.hashes):
        shutil.rmtree(kept)
        raise InputError(f"the wheels of {wheels.name} are not the expected ones: {files}; they were deleted")
    for name in files:
        with zipfile.ZipFile(kept / name) as archive:
            archive.extractall(folder)
    for name in _UNUSED:
        shutil.rmtree(folder / name, ignore_errors=True)
    for tool in folder.glob("torch/bin/*"):
        tool.chmod(0o755)  # torch looks for one of them on import
    return files


def forget_wheels() -> None:
    """Delete the wheels that were kept for an interrupted run."""
    shutil.rmtree(machine_folder() / "wheels", ignore_errors=True)


def _download(kept: Path, wheels: Wheels) -> None:
    lines = [
        f"{requirement} --hash=sha256:{wheels.hashes[index]}" if wheels.hashes else requirement
        for index, requirement in enumerate(wheels.requirements)
    ]
    listing = kept / "requirements.txt"
    listing.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version=3.11", *_TAGS, f"--dest={kept}", f"--requirement={listing}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
        raise InputError(f"pip could not fetch {', '.join(wheels.requirements)} for aarch64: {lines[0]}")
