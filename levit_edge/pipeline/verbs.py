"""What the verbs do with a finished bundle: evaluate, time, look inside, predict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from calibration import Batch, load, open_dataset, sample
from levit_edge.bundle.files import size_bytes
from levit_edge.bundle.golden import read_golden
from levit_edge.bundle.manifest import Bundle, open_bundle
from levit_edge.demo import DEMO_CHECKPOINT, EVALUATION_FOLDER, demo_archive
from levit_edge.devices import LOCAL, Device, open_device
from levit_edge.errors import InputError
from levit_edge.gates.check import check
from levit_edge.gates.gate import Figures
from levit_edge.gates.limits import limits_for
from levit_edge.metrics.accuracy import Accuracy
from levit_edge.pipeline.diverge import read_image
from levit_edge.pipeline.images import BATCH, check_classes
from levit_edge.pipeline.on_device import (
    COUNTED_RUNS,
    DEVICE_BATCH,
    DeviceRunner,
    count_instructions,
    device_accuracy,
    runtimes,
)
from levit_edge.pipeline.verify import accuracies, one_torch_thread, paired_latency, run_each
from levit_edge.progress import QUIET, Progress
from levit_edge.report.answers import BenchResult, BenchRow, Evaluation, Inspection, LabelScore, Prediction
from levit_edge.report.schema import DeviceFigures, GateResult
from targets.registry import target
from targets.target import Logits, Runner

TIMED_RUNS = 60
MAX_COUNTED_RUNS = 1000  # the emulator's counter has room for 4096 phases


def _open(path: Path) -> Bundle:
    """The bundle at ``path``, with every file as it was built; InputError otherwise."""
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

    On a ``device`` other than local, the bundle runs there, and its float reference here. Raises InputError when the
    bundle is not as built, when there are no images, or when the device is unknown or cannot run the bundle, and
    MissingComponentError when the device needs something first.
    """
    elsewhere = open_device(device)
    opened = _open(bundle)
    name = opened.manifest.target
    runtime = None if elsewhere is None else elsewhere.runtime(name)
    path, subfolder = _evaluation_data(opened, data)
    runner, reference = _load(opened)
    size = BATCH if elsewhere is None else DEVICE_BATCH
    with ExitStack() as stack:
        stack.enter_context(one_torch_thread())
        batches = _batches(opened, path, subfolder, limit, size, stack, progress)
        if elsewhere is None or runtime is None:
            found = accuracies(batches, lambda batch: run_each(reference, batch), {name: runner})
            return _evaluation(opened, bundle, found[name])
        there = DeviceRunner(elsewhere, name, opened.model_path, runtime, progress)
        both = device_accuracy(batches, lambda batch: run_each(reference, batch), runner, there)
    assert both.accuracy is not None
    return _evaluation(opened, bundle, both.accuracy, {elsewhere.name: both})


def _batches(
    bundle: Bundle, path: Path, subfolder: str, limit: int | None, size: int, stack: ExitStack, progress: Progress
) -> Iterator[Batch]:
    """The images at ``path`` in batches of at most ``size``; the data set stays open as long as ``stack``."""
    manifest = bundle.manifest
    images = stack.enter_context(open_dataset(path, manifest.labels, subfolder=subfolder))
    check_classes(images, path)
    items = images.items if limit is None else sample(images.items, min(limit, len(images.items)), 0)
    loader = load(images, items, manifest.preprocessing, batch_size=size)
    return progress.track(loader, f"evaluate {manifest.target}", -(-len(items) // size))


def _evaluation(
    opened: Bundle, bundle: Path, accuracy: Accuracy, devices: dict[str, DeviceFigures] | None = None
) -> Evaluation:
    devices = devices or {}
    return Evaluation(
        bundle=str(bundle),
        target=opened.manifest.target,
        device=next(iter(devices), LOCAL),
        accuracy=accuracy,
        local=next((found.local for found in devices.values()), None),
        gates=_accuracy_gates(opened, accuracy, devices),
    )


def _evaluation_data(bundle: Bundle, data: Path | None) -> tuple[Path, str]:
    if data is not None:
        return data, ""
    if bundle.manifest.model.source.endswith(f"assets/{DEMO_CHECKPOINT}"):
        return demo_archive(), EVALUATION_FOLDER
    raise InputError(f"{bundle.path} is not the demo, so name the images to evaluate on with --data DATA")


def _accuracy_gates(bundle: Bundle, accuracy: Accuracy, devices: dict[str, DeviceFigures]) -> tuple[GateResult, ...]:
    manifest = bundle.manifest
    base = str(manifest.recipe.settings.get("base", manifest.recipe.name))
    figures = Figures(accuracy=accuracy, devices=devices, asked=frozenset({"accuracy", "devices"}))
    return check(figures, limits_for(base, target(manifest.target).limits), len(manifest.labels))


def bench(
    bundles: Sequence[Path],
    *,
    device: str = LOCAL,
    threads: int = 1,
    runs: int | None = None,
    progress: Progress = QUIET,
) -> BenchResult:
    """Each bundle against its float reference, on an image of its golden values.

    Times here: ``runs`` rounds, TIMED_RUNS by default. Instructions on another ``device``: ``runs`` inferences,
    COUNTED_RUNS by default and 1 to MAX_COUNTED_RUNS. Raises InputError for an unknown device, one that can run no
    bundle, and more than one thread or too many runs on an emulator; MissingComponentError when the device needs
    something first.
    """
    elsewhere = open_device(device)
    if elsewhere is None:
        rows = [
            _time(path, threads, TIMED_RUNS if runs is None else runs)
            for path in progress.track(bundles, "time", len(bundles))
        ]
        return BenchResult(device=device, rows=tuple(rows))
    counted = COUNTED_RUNS if runs is None else runs
    _check_counting(elsewhere, threads, counted)
    opened = [_open(path) for path in bundles]
    known = runtimes(elsewhere, [bundle.manifest.target for bundle in opened])
    rows = [
        _count(elsewhere, bundle, known, counted)
        for bundle in progress.track(opened, f"count instructions on {elsewhere.name}", len(opened))
    ]
    return BenchResult(device=elsewhere.name, rows=tuple(rows))


def _check_counting(device: Device, threads: int, runs: int) -> None:
    if threads != 1:
        raise InputError(f"threads is {threads}; {device.name} counts the instructions of 1 thread")
    if not 1 <= runs <= MAX_COUNTED_RUNS:
        raise InputError(f"runs is {runs}; {device.name} counts 1 to {MAX_COUNTED_RUNS} inferences")


def _time(path: Path, threads: int, runs: int) -> BenchRow:
    opened = _open(path)
    runner, reference = _load(opened, threads)
    name = opened.manifest.target
    if not runner.executed:
        note = "not timed: the runtime of this target does not run on this machine"
        return BenchRow(bundle=str(path), target=name, runtime=runner.runtime, note=note)
    image = read_golden(opened.path).inputs[:1]
    latency = paired_latency(reference, runner, image, threads=threads, runs=runs)
    return BenchRow(bundle=str(path), target=name, runtime=runner.runtime, latency=latency)


def _count(device: Device, bundle: Bundle, known: Mapping[str, str], runs: int) -> BenchRow:
    name = bundle.manifest.target
    if name not in known:
        note = f"not counted: {device.name} does not run {name} bundles"
        return BenchRow(bundle=str(bundle.path), target=name, runtime="", note=note)
    image = read_golden(bundle.path).inputs[:1]
    counted = count_instructions(device, name, bundle.reference_path, bundle.model_path, image, runs)
    return BenchRow(bundle=str(bundle.path), target=name, runtime=known[name], instructions=counted)


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
    logits = runner(read_image(bundle, image))[0]  # [1, classes] -> [classes]
    return Prediction(
        image=str(image),
        runtime=runner.runtime,
        executed=runner.executed,
        top=_scores(logits, bundle.manifest.labels, top),
    )


def _scores(logits: Logits, labels: Sequence[str], top: int) -> tuple[LabelScore, ...]:
    exponentials = np.exp(logits.astype(np.float64) - logits.max())
    percent = 100 * exponentials / exponentials.sum()
    order = np.argsort(-percent, kind="stable")[:top]
    return tuple(LabelScore(label=labels[index], probability_pct=float(percent[index])) for index in order)
