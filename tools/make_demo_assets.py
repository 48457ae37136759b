"""Make the demo's two binary assets from a trained checkpoint and two archives of CIFAR-10 images.

The same inputs give the same bytes. From the root of a clone:

    python -m tools.make_demo_assets --checkpoint CHECKPOINT.safetensors --train TRAIN.zip --test TEST.zip

Other weights need another ``levit_edge.demo.DEMO_SHA256``; the tests of the demo show it.
"""

from __future__ import annotations

import argparse
import logging
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from calibration import open_dataset, sample
from levit_edge.demo import CALIBRATION_FOLDER, DEMO_ARCHIVE, DEMO_CHECKPOINT, DEMO_LABELS, EVALUATION_FOLDER

CALIBRATION_IMAGES = 256
EVALUATION_IMAGES = 1000
MAX_ARCHIVE_BYTES = 4_000_000
SEED = 0
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can state
_UNIX = 3
_MODE = 0o100644 << 16

logger = logging.getLogger("make_demo_assets")


def as_float16(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with every float tensor rounded to float16; raises ValueError where a value leaves its range.

    Weights may round to zero. A BatchNorm variance may not even become subnormal, for the network divides by it.
    """
    tiny = torch.finfo(torch.float16).tiny
    rounded = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    for key, tensor in rounded.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{key} has values that float16 cannot hold")
        if key.endswith(".running_var") and bool((tensor < tiny).any()):
            raise ValueError(f"{key} has variances below {tiny}")
    return rounded


def draw(source: Path, count: int, folder: str) -> dict[str, bytes]:
    """``count`` images of the archive ``source``, balanced over the classes: ``folder/class/name`` -> file."""
    with open_dataset(source, DEMO_LABELS, require_labels=True) as images:
        return {f"{folder}/{item.name}": images.read(item) for item in sample(images.items, count, SEED)}


def write_archive(path: Path, content: Mapping[str, bytes]) -> None:
    """A zip file of sorted names, uncompressed (PNGs are), that states neither when nor where it was made."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(content):
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system, info.external_attr = _UNIX, _MODE
            archive.writestr(info, content[name])


def make_archive(path: Path, train: Path, test: Path) -> None:
    """Draw both folders and write them; raises ValueError when they share an image or the file is too large."""
    calibration = draw(train, CALIBRATION_IMAGES, CALIBRATION_FOLDER)
    evaluation = draw(test, EVALUATION_IMAGES, EVALUATION_FOLDER)
    shared = set(calibration.values()) & set(evaluation.values())
    if shared:
        raise ValueError(f"{len(shared)} images are in both {train} and {test}")
    write_archive(path, calibration | evaluation)
    excess = path.stat().st_size - MAX_ARCHIVE_BYTES
    if excess > 0:
        raise ValueError(f"{path} is {excess} bytes too large; the limit is {MAX_ARCHIVE_BYTES}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write both files into ``--out`` and log their sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="LeViT weights as safetensors, float32")
    parser.add_argument("--train", type=Path, required=True, help="images to calibrate with, a folder per class")
    parser.add_argument("--test", type=Path, required=True, help="images to evaluate with, a folder per class")
    parser.add_argument("--out", type=Path, default=Path("levit_edge/assets"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    save_file(as_float16(load_file(options.checkpoint)), options.out / DEMO_CHECKPOINT, {"format": "pt"})
    make_archive(options.out / DEMO_ARCHIVE, options.train, options.test)
    for name in (DEMO_CHECKPOINT, DEMO_ARCHIVE):
        logger.info("%s: %d bytes", options.out / name, (options.out / name).stat().st_size)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
