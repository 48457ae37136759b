"""``levit-edge bench``: finished bundles against their float references, in time or in instructions."""

from __future__ import annotations

from levit_edge.bundle.golden import read_golden
from levit_edge.bundle.manifest import Bundle
from levit_edge.devices import Device, open_device, runtimes
from levit_edge.errors import InputError
from levit_edge.metrics.measurement_defaults import COUNTED_RUNS, TIMED_RUNS
from levit_edge.pipeline.bundles import open_verified
from levit_edge.pipeline.on_device import BundleFiles, count_on, time_on
from levit_edge.pipeline.options import BenchOptions
from levit_edge.progress import QUIET, Progress
from levit_edge.report.answers import BenchResult, BenchRow


def bench(options: BenchOptions, progress: Progress = QUIET) -> BenchResult:
    """Each bundle against its float reference, on an image of its golden values.

    A device that times gives paired times, of TIMED_RUNS rounds by default; one that only counts gives instructions,
    of COUNTED_RUNS inferences by default. Raises InputError for an unknown device, for one that can run none of the
    bundles, and for a number of threads or runs that it cannot take; MissingComponentError when it needs something
    first.
    """
    device = open_device(options.device)
    if not device.times and not device.counts:
        raise InputError(f"{device.name} neither times nor counts; name another --device")
    runs = options.runs or (TIMED_RUNS if device.times else COUNTED_RUNS)
    device.check_runs(options.threads, runs)
    bundles = [open_verified(path)[0] for path in options.bundles]
    known = runtimes(device, [bundle.manifest.target for bundle in bundles])
    label = "time" if device.times else f"count instructions on {device.name}"
    rows = [
        _row(device, bundle, known.get(bundle.manifest.target), options.threads, runs)
        for bundle in progress.track(bundles, label, len(bundles))
    ]
    return BenchResult(device=device.name, rows=tuple(rows))


def _row(device: Device, bundle: Bundle, runtime: str | None, threads: int, runs: int) -> BenchRow:
    path, name = str(bundle.path), bundle.manifest.target
    if runtime is None:
        verb = "timed" if device.times else "counted"
        note = f"not {verb}: {device.name} does not run {name} bundles"
        return BenchRow(bundle=path, target=name, runtime="", note=note)
    files = BundleFiles(name, bundle.reference_path, bundle.model_path)
    image = read_golden(bundle.path).inputs[:1]
    if not device.times:
        counted = count_on(device, files, image, runs)
        return BenchRow(bundle=path, target=name, runtime=runtime, instructions=counted)
    latency = time_on(device, files, image, threads, runs)
    if latency is None:
        stand_in = device.load(name, bundle.model_path, threads, QUIET).runtime
        note = "not timed: the runtime of this target does not run on this machine"
        return BenchRow(bundle=path, target=name, runtime=stand_in, note=note)
    return BenchRow(bundle=path, target=name, runtime=latency.runtime, latency=latency)
