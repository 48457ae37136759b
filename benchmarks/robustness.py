"""How much the int8 of the default recipe depends on what it is given: other calibration images, other checkpoints.

    python -m benchmarks.robustness --calibration DATA --eval DATA --other-domain DATA

writes ``benchmarks/ROBUSTNESS.md`` and ``robustness.json``. Both data sets are of the demo's classes; from
``--calibration`` images are drawn by seed, and its labels train the heads of the larger variants. Torch computes the
quantized programs, which every built file equals or is refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks import host
from benchmarks.outlier_channels import with_outliers
from benchmarks.probed_variants import PROBE_IMAGES, probed
from benchmarks.robustness_page import PER_TENSOR, WIDER, Row, page
from benchmarks.simulated import DEFAULT, Measured, Scene
from calibration import Batch, load, open_dataset, sample
from levit_edge.demo import demo_checkpoint
from levit_edge.errors import LevitEdgeError
from levit_edge.families.levit.model import Levit
from levit_edge.pipeline.images import BATCH
from levit_edge.pipeline.load import Subject
from levit_edge.pipeline.load import load as load_subject
from levit_edge.pipeline.options import BuildOptions
from levit_edge.pipeline.verify import one_torch_thread

PAGE, DOCUMENT = "ROBUSTNESS.md", "robustness.json"
SAMPLES, FEW = 256, 32
SEEDS, FEW_SEEDS, DOMAIN_SEEDS = 10, 3, 2
# The smallest is the control: its trained form is the demo, so what it loses here it loses by the construction.
VARIANTS = ("levit-128S", "levit-192", "levit-256", "levit-384")


@dataclass(frozen=True)
class Setting:
    """What the command line gives, and the demo."""

    options: argparse.Namespace
    demo: Subject
    scene: Scene

    def images(self, path: Path, count: int) -> list[Batch]:
        """``count`` images, drawn by seed 0."""
        with open_dataset(path, self.demo.labels) as images:
            items = sample(images.items, min(count, len(images.items)), 0)
            return list(load(images, items, self.demo.preprocessing, batch_size=BATCH))

    def scene_of(self, model: Levit, images: int) -> Scene:
        """``model``, judged on the first ``images`` of the evaluation."""
        return Scene.of(model, self.demo, self.scene.evaluation[: -(-images // BATCH)])


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.robustness", description=__doc__)
    parser.add_argument("--calibration", type=Path, required=True, help="images with classes to calibrate with")
    parser.add_argument("--eval", type=Path, required=True, help="images to measure on")
    parser.add_argument("--other-domain", type=Path, help="images of another kind to calibrate with")
    parser.add_argument("--images", type=int, default=512, help="images to measure on")
    parser.add_argument("--variant-images", type=int, default=128, help="images to measure the larger variants on")
    parser.add_argument("--part", choices=PARTS, action="append", help="measure only this and keep the rest")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help=f"{PAGE} and {DOCUMENT} go there")
    return parser.parse_args(argv)


def _rows(part: str, group: str, scene: Scene, found: Measured, samples: int, seed: int) -> Iterator[Row]:
    for target, noise in found.noise.items():
        row = Row(
            part=part,
            group=group,
            target=target,
            seed=seed,
            samples=samples,
            images=noise.images,
            sqnr_db=round(noise.sqnr_db, 3),
            agreement_pct=round(100 - noise.changed_pct, 3),
            rescaled=found.rescaled,
            float_top1_pct=round(scene.top1_pct, 3),
        )
        print(f"{group}, {seed}: {target} {row.sqnr_db:.2f} dB, {row.agreement_pct:.2f} %", file=sys.stderr, flush=True)
        yield row


def _draws(part: str, group: str, setting: Setting, data: Path, samples: int, seeds: int) -> Iterator[Row]:
    for seed in range(seeds):
        yield from _rows(part, group, setting.scene, setting.scene.measure(data, samples, seed), samples, seed)


def _seeds(setting: Setting) -> Iterator[Row]:
    yield from _draws("seeds", f"{SAMPLES} images", setting, setting.options.calibration, SAMPLES, SEEDS)


def _few(setting: Setting) -> Iterator[Row]:
    yield from _draws("few", f"{FEW} images", setting, setting.options.calibration, FEW, FEW_SEEDS)


def _domain(setting: Setting) -> Iterator[Row]:
    if (data := setting.options.other_domain) is not None:
        yield from _draws("domain", f"{SAMPLES} images of another domain", setting, data, SAMPLES, DOMAIN_SEEDS)


def _outliers(setting: Setting) -> Iterator[Row]:
    published = demo_checkpoint().model
    assert isinstance(published, Levit)
    wide = setting.scene_of(with_outliers(published, WIDER, PER_TENSOR), setting.options.images)
    for group, scene, rescale in (
        ("the demo", setting.scene, True),
        ("wide channels, rescaling on", wide, True),
        ("wide channels, rescaling off", wide, False),
    ):
        recipe = replace(DEFAULT, rescale_channels=rescale)
        found = scene.measure(setting.options.calibration, SAMPLES, 0, recipe)
        yield from _rows("outliers", group, scene, found, SAMPLES, 0)


def _variants(setting: Setting) -> Iterator[Row]:
    batches = setting.images(setting.options.calibration, PROBE_IMAGES)
    inputs = [torch.from_numpy(batch.inputs) for batch in batches]
    classes = torch.from_numpy(np.concatenate([batch.class_index for batch in batches])).long()
    for variant in VARIANTS:
        model = probed(variant, setting.demo.labels, inputs, classes)
        scene = setting.scene_of(model, setting.options.variant_images)
        found = scene.measure(setting.options.calibration, SAMPLES, 0)
        yield from _rows("variants", variant, scene, found, SAMPLES, 0)


PARTS: dict[str, Callable[[Setting], Iterator[Row]]] = {
    "seeds": _seeds,
    "few": _few,
    "domain": _domain,
    "outliers": _outliers,
    "variants": _variants,
}


def _measure(options: argparse.Namespace) -> Iterator[list[Row]]:
    """All rows so far, after each part."""
    demo = load_subject(BuildOptions())
    setting = Setting(options, demo, Scene(demo, ()))
    setting = replace(setting, scene=Scene(demo, setting.images(options.eval, options.images)))
    document, rows = options.out / DOCUMENT, list[Row]()
    if options.part and document.is_file():
        rows = [Row(**row) for row in json.loads(document.read_text(encoding="utf-8"))["rows"]]
    for part in options.part or PARTS:
        rows = [row for row in rows if row.part != part] + list(PARTS[part](setting))
        yield rows


def _write(options: argparse.Namespace, rows: Sequence[Row]) -> str:
    """The page, which is written with the JSON document."""
    domain = " --other-domain DATA" if options.other_domain else ""
    where = host.describe(
        f"python -m benchmarks.robustness --calibration DATA --eval DATA{domain} --images {options.images}"
        f" --variant-images {options.variant_images}"
    )
    document = asdict(where) | {"rows": [asdict(row) for row in rows]}
    (options.out / DOCUMENT).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    text = page(where, rows)
    (options.out / PAGE).write_text(text, encoding="utf-8")
    return text


def main(argv: list[str] | None = None) -> int:
    """Measure, write the page and the JSON document, print the page. 2 or 3 when something is wrong or missing."""
    options, text = _arguments(argv), ""
    try:
        with one_torch_thread():
            for rows in _measure(options):
                text = _write(options, rows)
    except LevitEdgeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
