"""``levit-edge eval``: the accuracy of a finished bundle against its own float reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from calibration import Batch, open_dataset
from levit_edge.bundle.manifest import Bundle
from levit_edge.demo import EVALUATION_FOLDER, demo_archive, is_demo
from levit_edge.devices import LOCAL, Device, open_device
from levit_edge.errors import InputError
from levit_edge.gates.check_bundle import check
from levit_edge.gates.gate import Figures
from levit_edge.gates.gates_file import read_gates
from levit_edge.gates.resolve_limits import limits_for
from levit_edge.metrics.accuracy import Accuracy, AccuracyMeter
from levit_edge.metrics.closeness import Closeness, ClosenessMeter
from levit_edge.metrics.program_match import ProgramMatch
from levit_edge.pipeline.answer_images import PARALLEL, ask
from levit_edge.pipeline.bundles import open_verified
from levit_edge.pipeline.images import EvaluationPass, Selection, check_classes, limited
from levit_edge.pipeline.options import EvaluateOptions
from levit_edge.pipeline.verify import one_torch_thread, verify_bundle
from levit_edge.progress import QUIET, Progress
from levit_edge.report.answers import Evaluation
from levit_edge.report.schema import DeviceFigures
from targets.registry import TARGETS
from targets.runner import Runner, run_batch


@dataclass(frozen=True)
class _Models:
    """Who answers: the float reference and the built model here, and the built model elsewhere if it was asked for."""

    reference: Runner
    here: Runner
    elsewhere: Runner | None


def evaluate(options: EvaluateOptions, progress: Progress = QUIET) -> Evaluation:
    """Accuracy of a bundle against its own float reference (the demo's images for a demo bundle).

    On a device other than this machine the bundle runs there, and its float reference here. Raises InputError when the
    bundle is not as built, when there are no images, or when the device is unknown or cannot run the bundle, and
    MissingComponentError when the device needs something first.
    """
    file = read_gates(options.gates, TARGETS, options.undecided)
    device = open_device(options.device)
    bundle, target = open_verified(options.bundle)
    device.runtime(target.name)  # refuses a target that it cannot run
    if not device.executes:
        raise InputError(f"{device.name} gives no answers, so it has no accuracy; valid: {LOCAL}")
    recipe = bundle.manifest.recipe
    limits = limits_for(target.name, str(recipe.settings.get("base", recipe.name)), target.limits, file)
    path, subfolder = _images_of(bundle, options.data)
    load = target.backend.load
    there = None if device.name == LOCAL else device.load(target.name, bundle.model_path, 1, progress)
    models = _Models(load(bundle.reference_path, 1), load(bundle.model_path, 1), there)
    with one_torch_thread(), _opened(bundle, path, subfolder, options.limit) as selection:
        images = EvaluationPass(selection)
        batches = images.batches(progress, f"evaluate {target.name}", device.batch_images)
        accuracy, local = _measure(models, batches)
        with progress.step(f"{target.name}: compare with the program"):
            match = verify_bundle(bundle, target, selection.first(1).inputs)
    return Evaluation(
        bundle=str(options.bundle),
        target=target.name,
        device=device.name,
        accuracy=accuracy,
        images=images.result(),
        local=local,
        program_match=match,
        undecided=file.undecided,
        gates=check(_figures(bundle, device, DeviceFigures(accuracy=accuracy, local=local), match), limits),
    )


@contextmanager
def _opened(bundle: Bundle, path: Path, subfolder: str, limit: int | None) -> Iterator[Selection]:
    manifest = bundle.manifest
    with open_dataset(path, manifest.labels, subfolder=subfolder) as images:
        check_classes(images, path)
        yield Selection(path.name, images, limited(images.items, limit, 0), manifest.preprocessing)


def _images_of(bundle: Bundle, data: Path | None) -> tuple[Path, str]:
    """(data set, folder inside it) to evaluate on."""
    if data is not None:
        return data, ""
    if is_demo(bundle.manifest.model.sha256, bundle.manifest.labels):
        return demo_archive(), EVALUATION_FOLDER
    raise InputError(f"{bundle.path} is not the demo, so name the images to evaluate on with --data DATA")


def _measure(models: _Models, batches: Iterable[Batch]) -> tuple[Accuracy, Closeness | None]:
    """(accuracy, closeness of a device to this host) from one pass, in which each image goes to every model in turn."""
    accuracy, closeness = AccuracyMeter(), ClosenessMeter()
    judged = models.elsewhere or models.here
    with ThreadPoolExecutor(PARALLEL) as pool:
        for batch in batches:
            floats, here = ask(pool, (models.reference, models.here), batch.inputs)
            logits = here if models.elsewhere is None else run_batch(models.elsewhere, batch.inputs)
            accuracy.update(floats, logits, batch.class_index)
            if models.elsewhere is not None:
                closeness.update(here, logits)
    local = None if models.elsewhere is None else closeness.result(models.here.runtime)
    return accuracy.result(runtime=judged.runtime, executed=judged.executed), local


def _figures(bundle: Bundle, device: Device, found: DeviceFigures, match: ProgramMatch | None) -> Figures:
    """What the gates judge: the accuracy and the match with the program; sizes, times and counts were not asked for."""
    return Figures(
        accuracy=found.accuracy,
        devices={} if device.name == LOCAL else {device.name: found},
        program_match=match,
        classes=len(bundle.manifest.labels),
        random_weights=bundle.manifest.model.random_weights,
        asked=frozenset({"accuracy", "devices", "program match"}),
    )
