"""What the verbs do with a finished bundle: evaluate, time, look inside, predict."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from calibration import check_size, image_pixels, load, normalize, open_dataset, sample
from levit_edge.accuracy import Accuracy
from levit_edge.bundle import Bundle, open_bundle, read_golden
from levit_edge.demo import DEMO_CHECKPOINT, EVALUATION_FOLDER, demo_archive
from levit_edge.errors import InputError
from levit_edge.files import clear_os_errors, size_bytes
from levit_edge.gates import evaluate as evaluate_gates
from levit_edge.pipeline.images import BATCH, check_classes
from levit_edge.pipeline.judge import accuracies, one_torch_thread, paired_latency, run_each
from levit_edge.progress import QUIET, Progress
from levit_edge.report import GateResult, TargetReport
from levit_edge.results import BenchResult, BenchRow, Evaluation, Inspection, LabelScore, Prediction
from levit_edge.thresholds import thresholds_for
from targets.base import Logits, Runner
from targets.registry import target

LOCAL = "local"


def _open(path: Path, device: str = LOCAL) -> Bundle:
    """The bundle at ``path``, with every file as it was built; InputError otherwise."""
    if device != LOCAL:
        raise InputError(f"device {device!r} is not supported by this version; valid: {LOCAL}")
    bundle = open_bundle(path)
    target(bundle.manifest.target)
    bundle.verify()
    return bundle


def _load(bundle: Bundle, threads: int = 1) -> tuple[Runner, Runner]:
    """(model, float reference) of the bundle."""
    chosen = target(bundle.manifest.target)
    return chosen.load(bundle.model_path, threads), chosen.load(bundle.reference_path, threads)


def evaluate(
    bundle: Path, *, data: Path | None, limit: int | None, device: str = LOCAL, progress: Progress = QUIET
) -> Evaluation:
    """Accuracy of a bundle against its own float reference on ``data`` (the demo's images for a demo bundle).

    Raises InputError when the bundle is not as built, when there are no images, or when the device is unknown.
    """
    opened = _open(bundle, device)
    manifest = opened.manifest
    path, subfolder = _evaluation_data(opened, data)
    runner, reference = _load(opened)
    with ExitStack() as stack:
        stack.enter_context(one_torch_thread())
        images = stack.enter_context(open_dataset(path, manifest.labels, subfolder=subfolder))
        check_classes(images, path)
        items = images.items if limit is None else sample(images.items, min(limit, len(images.items)), 0)
        loader = load(images, items, manifest.preprocessing, batch_size=BATCH)
        batches = progress.track(loader, f"evaluate {manifest.target}", -(-len(items) // BATCH))
        found = accuracies(batches, lambda batch: run_each(reference, batch), {manifest.target: runner})
    accuracy = found[manifest.target]
    return Evaluation(
        bundle=str(bundle), target=manifest.target, accuracy=accuracy, gates=_accuracy_gates(opened, accuracy)
    )


def _evaluation_data(bundle: Bundle, data: Path | None) -> tuple[Path, str]:
    if data is not None:
        return data, ""
    if bundle.manifest.model.source.endswith(f"assets/{DEMO_CHECKPOINT}"):
        return demo_archive(), EVALUATION_FOLDER
    raise InputError(f"{bundle.path} is not the demo, so name the images to evaluate on with --data DATA")


def _accuracy_gates(bundle: Bundle, accuracy: Accuracy) -> tuple[GateResult, ...]:
    manifest = bundle.manifest
    size, reference = size_bytes(bundle.model_path), size_bytes(bundle.reference_path)
    entry = TargetReport(
        bundle=manifest.target,
        model_file=manifest.model_file,
        recipe=manifest.recipe.name,
        size_bytes=size,
        fp32_size_bytes=reference,
        size_ratio=size / reference,
        accuracy=accuracy,
    )
    limits = thresholds_for(str(manifest.recipe.settings.get("base", manifest.recipe.name)), manifest.target)
    return tuple(
        gate
        for gate in evaluate_gates(entry, limits, len(manifest.labels))
        if gate.name not in ("speedup", "size_ratio")
    )


def bench(
    bundles: Sequence[Path], *, device: str = LOCAL, threads: int = 1, runs: int = 60, progress: Progress = QUIET
) -> BenchResult:
    """Paired latency of each bundle and its float reference, on an image of its golden values."""
    rows = []
    for path in progress.track(bundles, "time", len(bundles)):
        opened = _open(path, device)
        runner, reference = _load(opened, threads)
        name = opened.manifest.target
        if runner.executed:
            image = read_golden(opened.path).inputs[:1]
            latency = paired_latency(reference, runner, image, threads=threads, runs=runs)
            rows.append(BenchRow(bundle=str(path), target=name, runtime=runner.runtime, latency=latency))
        else:
            note = "not timed: the runtime of this target does not run on this machine"
            rows.append(BenchRow(bundle=str(path), target=name, runtime=runner.runtime, note=note))
    return BenchResult(device=device, rows=tuple(rows))


def inspect(bundle: Path) -> Inspection:
    """What runs where in a bundle, read from its model file."""
    opened = _open(bundle)
    chosen = target(opened.manifest.target)
    contents = chosen.contents(opened.model_path)
    return Inspection(
        bundle=str(bundle),
        target=chosen.name,
        model_file=chosen.model_file,
        size_bytes=size_bytes(opened.model_path),
        delegates=contents.delegates,
        int8_ops=contents.count("int8"),
        float_ops=contents.count("float"),
        fallback_ops=contents.fallback_ops,
        operators=contents.operators,
        notes=contents.notes,
    )


def predict(bundle: Path, images: Sequence[Path], *, top: int = 5) -> tuple[Prediction, ...]:
    """The ``top`` most probable classes of every image file."""
    opened = _open(bundle)
    chosen = target(opened.manifest.target)
    runner = chosen.load(opened.model_path, 1)
    return tuple(_predict(opened, runner, image, top) for image in images)


def _predict(bundle: Bundle, runner: Runner, image: Path, top: int) -> Prediction:
    manifest = bundle.manifest
    if not image.is_file():
        raise InputError(f"{image} does not exist or is not a file; name an image file")
    with clear_os_errors(image):
        data = image.read_bytes()
    pixels = image_pixels(data, str(image), manifest.preprocessing)
    height, width = manifest.inputs[0].shape[2:]
    check_size(pixels, (height, width), str(image))
    logits = runner(normalize(pixels, manifest.preprocessing)[None])[0]  # [1, classes] -> [classes]
    return Prediction(
        image=str(image), runtime=runner.runtime, executed=runner.executed, top=_scores(logits, manifest.labels, top)
    )


def _scores(logits: Logits, labels: Sequence[str], top: int) -> tuple[LabelScore, ...]:
    exponentials = np.exp(logits.astype(np.float64) - logits.max())
    percent = 100 * exponentials / exponentials.sum()
    order = np.argsort(-percent, kind="stable")[:top]
    return tuple(LabelScore(label=labels[index], probability_pct=float(percent[index])) for index in order)
